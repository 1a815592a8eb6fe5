"""Conformance vectors: cases of LRP with exactly known relevance, for any framework in any language.

What the files hold is said in README.md beside this file; :func:`export` writes them into a folder. They were made by
:mod:`lrp_ref.oracle.vectors.generate`, which makes the same bytes again.
"""

from .files import FORMAT, VERSION, contents, export

__all__ = ["FORMAT", "VERSION", "contents", "export"]
