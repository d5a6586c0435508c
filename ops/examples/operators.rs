//! Writes `docs/operators.md`: `cargo run -p vmlu-ops --example operators`.

fn main() -> std::io::Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let source = |name: &str| {
        let path = format!("{root}src/{name}.rs");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let document = vmlu_ops::document::markdown(source);
    std::fs::write(format!("{root}../docs/operators.md"), document)
}
