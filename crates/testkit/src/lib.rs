//! Parts that tests put around real Trunkline processes: a balancer that alternates on every request, a TCP proxy that misbehaves on
//! command; and a whole cluster for people to kill by hand. Owns no product code and is no dependency of any; the processes of tests are started by `tests/lib`.

pub mod balancer;
pub mod cluster;
pub mod fault_proxy;
