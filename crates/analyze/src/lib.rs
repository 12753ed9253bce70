//! Static findings from embedded rules.
