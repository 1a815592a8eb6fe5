"""Files are written whole or not at all, whatever stops the writing."""

import pytest

from lrp_ref.files import written_whole


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with written_whole(path) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("before", [b"before", None])
def test_what_was_there_stays_when_the_writing_stops(tmp_path, stop, before):
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)

    def write():
        with written_whole(path) as file:
            file.write(b"half")
            raise stop

    with pytest.raises(stop):
        write()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if before is None else [before])
