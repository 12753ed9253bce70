//! One answer in, one verdict out: extract, parse, findings, tests, exploits.
