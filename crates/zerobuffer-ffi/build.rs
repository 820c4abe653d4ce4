//! Gives the shared library its SONAME: the name with the number of the ABI, as programs are linked against it.

fn main() {
    println!("cargo::rerun-if-changed=src/version.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let source = std::fs::read_to_string("src/version.rs").expect("src/version.rs is there");
    // One place for the number: the constant that the header shows.
    let major = source
        .lines()
        .find_map(|line| line.strip_prefix("pub const ZB_ABI_VERSION_MAJOR: u32 = ")?.strip_suffix(';'))
        .expect("src/version.rs states ZB_ABI_VERSION_MAJOR");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzerobuffer_c.so.{major}");
    }
}
