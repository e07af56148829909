//! Parts that tests put around real Trunkline processes: a balancer that alternates on every request, a TCP proxy that misbehaves on
//! command. Owns no product code and is no dependency of any; the processes themselves are started by `tests/lib`.

pub mod balancer;
pub mod fault_proxy;
