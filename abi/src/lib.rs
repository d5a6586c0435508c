//! Shared definitions.
#![no_std]
