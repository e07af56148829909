//! One deadline per key, the earliest first.
