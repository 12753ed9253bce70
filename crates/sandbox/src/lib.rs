//! Runs untrusted code with limits, without a network, under a deadline.
