//! Answers to verdicts to rates with intervals, and paired comparison.
