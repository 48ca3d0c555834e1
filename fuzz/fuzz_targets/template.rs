#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| appcode_operator_fuzz::properties::template(bytes));
