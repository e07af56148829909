//! What people may type while a cluster runs.

/// One line of standard input.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Start(String),
    /// A signal, and what is said about it.
    Signal {
        signal: &'static str,
        member: String,
    },
    Token {
        app: String,
        user: String,
        role: Option<String>,
    },
    List,
    Help,
    Quit,
}

pub const HELP: &str =
    "  kill NAME                     SIGKILL: it dies without a word, as `kill -9 PID` does from elsewhere
  stop NAME                     SIGTERM: it drains and goes
  pause NAME, resume NAME       SIGSTOP, SIGCONT: it hangs, and goes on
  start NAME                    again what died, on its old ports and data
  list                          who runs
  token APP USER [ROLE]         a token for another user
  quit, or Ctrl-C               stop everything";

impl Order {
    /// `None`: nothing we know.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let signal = |signal, member: &str| Some(Self::Signal { signal, member: member.to_owned() });
        match words[..] {
            ["start", member] => Some(Self::Start(member.to_owned())),
            ["kill", member] => signal("KILL", member),
            ["stop", member] => signal("TERM", member),
            ["pause", member] => signal("STOP", member),
            ["resume", member] => signal("CONT", member),
            ["token", app, user, ..] if words.len() <= 4 => {
                let role = words.get(3).map(|role| (*role).to_owned());
                Some(Self::Token { app: app.to_owned(), user: user.to_owned(), role })
            }
            ["list"] => Some(Self::List),
            ["help"] => Some(Self::Help),
            ["quit" | "exit"] => Some(Self::Quit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_orders_or_nothing() {
        let signal = |signal, member: &str| Some(Order::Signal { signal, member: member.to_owned() });
        assert_eq!(Order::parse("kill gateway-2"), signal("KILL", "gateway-2"));
        assert_eq!(Order::parse("  pause   nats-1 "), signal("STOP", "nats-1"));
        let token = |role: Option<&str>| Order::Token {
            app: "visits".to_owned(),
            user: "8".to_owned(),
            role: role.map(str::to_owned),
        };
        assert_eq!(Order::parse("token visits 8"), Some(token(None)));
        assert_eq!(Order::parse("token visits 8 doctor"), Some(token(Some("doctor"))));
        for line in ["kill", "kill a b", "token visits", "token visits 8 doctor more", "halt", ""] {
            assert_eq!(Order::parse(line), None, "{line}");
        }
    }
}
