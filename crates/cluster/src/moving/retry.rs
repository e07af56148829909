//! When to send again what was not answered.
