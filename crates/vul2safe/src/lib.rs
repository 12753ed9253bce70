//! From real vulnerabilities to a measured, safer code model.
