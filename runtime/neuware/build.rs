//! Gives the library its name for the dynamic linker.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libvmlu_neuware.so");
    // Threads run in it, and forks call into it: it stays when a program that loaded it by hand lets it go.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
