//! Our own tasks with functional and exploit tests, their generator and held-out levels.
