"""Networks of other libraries as graphs: one reader a library, each imported when it is asked for."""
