//! `trunkline contract`: an application's contract for machines. The tables are in the dialects; here they get their two forms.

mod asyncapi;
mod typescript;

use std::process::ExitCode;

use dialects::{Contract, Shape};

use crate::arguments::{ContractArguments, ContractFormat};

/// Prints the document.
pub fn run(arguments: &ContractArguments) -> ExitCode {
    print!("{}", document(arguments.dialect, arguments.format));
    ExitCode::SUCCESS
}

fn document(contract: &Contract, format: ContractFormat) -> String {
    match format {
        ContractFormat::Asyncapi => format!("{:#}\n", asyncapi::document(contract)),
        ContractFormat::Typescript => typescript::module(contract),
    }
}

fn shape(text: &str) -> Shape {
    Shape::parse(text).expect("a test of the dialects reads every shape of the contracts")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `make contracts` writes them.
    #[test]
    fn the_committed_documents_are_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for contract in dialects::CONTRACTS {
            for (file, format) in [
                (format!("docs/asyncapi/{}.json", contract.title), ContractFormat::Asyncapi),
                (format!("tests/types/{}.d.ts", contract.title), ContractFormat::Typescript),
            ] {
                let committed = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
                assert_eq!(committed, document(contract, format), "{file} is old: run `make contracts`");
            }
        }
    }
}
