//! Deliberate faults: the accounting is trusted because it has been seen to find these.

use std::str::FromStr;

/// What happens to every n-th delivery, counted over all sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Drop(u64),
    Duplicate(u64),
    /// Delivered behind the socket's next message.
    Reorder(u64),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`none`, `drop=N`, `duplicate=N` or `reorder=N` with N above zero")]
pub struct NoFault;

impl Fault {
    /// This fault if delivery number `count` is to suffer it, else `None`.
    pub fn strikes(self, count: u64) -> Fault {
        match self {
            Fault::Drop(n) | Fault::Duplicate(n) | Fault::Reorder(n) if count.is_multiple_of(n) => self,
            _ => Fault::None,
        }
    }
}

impl FromStr for Fault {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Fault, NoFault> {
        if text == "none" {
            return Ok(Fault::None);
        }
        let (name, n) = text.split_once('=').ok_or(NoFault)?;
        let n = n.parse().ok().filter(|&n| n > 0).ok_or(NoFault)?;
        match name {
            "drop" => Ok(Fault::Drop(n)),
            "duplicate" => Ok(Fault::Duplicate(n)),
            "reorder" => Ok(Fault::Reorder(n)),
            _ => Err(NoFault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_at_their_interval_and_nowhere_else() {
        let fault: Fault = "drop=3".parse().unwrap();
        let struck: Vec<u64> = (1..10).filter(|&count| fault.strikes(count) != Fault::None).collect();
        assert_eq!(struck, [3, 6, 9]);
        assert_eq!("reorder=0".parse::<Fault>(), Err(NoFault));
        assert_eq!("none".parse(), Ok(Fault::None));
    }
}
