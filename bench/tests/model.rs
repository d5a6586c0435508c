//! The model of the X8 gives its published figures.

#[test]
fn known_workloads_take_the_published_time() {
    let transport = vmlu::transport::embedded::Embedded::new(1, false).expect("the embedded card");
    let rows = vmlu_bench::model::run(&*transport, 0).expect("the workloads run");
    assert!(rows.len() >= 9);
    for row in rows {
        assert_eq!(row.ok, Some(true), "{row:?}");
    }
}
