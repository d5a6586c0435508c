//! The debug kernel: it checks itself and the driver while tests run, and reports on its console.
//!
//! [`kernel`] builds it, [`config`] makes sure that it has what was asked for, [`report`] finds reports in what it wrote, [`planted`] proves
//! that it reports at all, [`audit`] collects the reports of machines.

pub mod audit;
pub mod config;
pub mod kernel;
pub mod planted;
pub mod report;
