//! Vulnerability records in, PrimeVul+ out: readers, writers, de-duplication, splits.
