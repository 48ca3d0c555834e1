//! Reads a page on standard input and prints it with the table of metrics as the code has them.

use std::io::Read;

use appcode_operator::metrics::table::renew;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut page = String::new();
    std::io::stdin().read_to_string(&mut page)?;
    print!(
        "{}",
        renew(&page).ok_or("the page has no marks around the table of metrics")?
    );
    Ok(())
}
