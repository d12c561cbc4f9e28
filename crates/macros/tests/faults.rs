//! Mistakes that the compiler reports, with the way out in the text.

#[test]
fn mistakes_are_compile_errors_that_say_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}
