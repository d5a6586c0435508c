//! `docs/operators.md` is what the code says.

#[test]
fn the_committed_document_is_current() {
    let read = |path: &str| {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let document = vmlu_ops::document::markdown(|name| read(&format!("src/{name}.rs")));
    assert!(
        read("../docs/operators.md") == document,
        "docs/operators.md is out of date: run `cargo run -p vmlu-ops --example operators`"
    );
}
