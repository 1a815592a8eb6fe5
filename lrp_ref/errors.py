"""The errors of the library: each says what, where, and what to do now."""


class LrpError(ValueError):
    """Anything that lrp_ref refuses."""


class ShapeError(LrpError):
    """An array does not fit the layer, rule or graph that it was given to."""


class ArithmeticMismatch(LrpError):
    """Arrays of different arithmetic meet, or one is of a kind that relevance cannot be computed in."""


class NotExact(LrpError):
    """A function with no rational values was asked for in exact arithmetic."""


class GraphError(LrpError):
    """The nodes given do not form a network."""


class LoadError(LrpError):
    """A file or object is not a network that can be read, or is made to do harm."""


class UnsupportedOp(LrpError):
    """A network holds an operator that has no layer here."""


class NoRule(LrpError):
    """A node has no rule, or a case of a composite can never apply."""


class UnsuitableRule(LrpError):
    """A rule cannot be applied to this layer."""


class Pole(LrpError):
    """A denominator is exactly zero although relevance and contributions are not (``strict=True``)."""


class Undecided(LrpError):
    """A comparison or division whose outcome the enclosures at hand do not settle: more precision may.

    `between` holds what could not be told apart, `unit` where it stands, (sample, ...), if that was found.
    """

    def __init__(self, message: str, *between: object, unit: tuple[int, ...] | None = None) -> None:
        super().__init__(message)
        self.between, self.unit = between, unit
