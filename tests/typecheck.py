"""The run-time type checker of the tests: beartype, to which a whole number is a float too (as to PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
