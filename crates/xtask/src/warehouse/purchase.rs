//! CDNOW's file: one purchase a line, blank-separated (`customer_id date number_of_cds dollar_value`), below a heading.

use anyhow::{Context as _, Result, bail};
use jiff::civil::Date;

/// One purchase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Purchase {
    /// Whose; five digits.
    pub(crate) customer: String,
    /// On which day.
    pub(crate) day: Date,
    /// How many CDs.
    pub(crate) cds: u32,
    /// For how many dollars.
    pub(crate) total: f64,
}

/// All purchases, in the order of the file.
///
/// # Errors
/// A line has another form; it is named by its number.
pub(crate) fn parse(text: &str) -> Result<Vec<Purchase>> {
    let mut purchases = Vec::new();
    for (position, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if fields.is_empty() || fields.first() == Some(&"customer_id") {
            continue;
        }
        purchases.push(purchase(&fields).with_context(|| format!("line {}", position + 1))?);
    }
    if purchases.is_empty() {
        bail!("there is no purchase in it");
    }
    Ok(purchases)
}

fn purchase(fields: &[&str]) -> Result<Purchase> {
    let [customer, day, cds, total] = fields else {
        bail!("expected four fields: customer, date, CDs, dollars")
    };
    if customer.is_empty() || !customer.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("a customer is a number");
    }
    Ok(Purchase {
        customer: (*customer).to_owned(),
        day: Date::strptime("%Y%m%d", day).context("a date is written 19970131")?,
        cds: cds.parse().context("CDs are a whole number")?,
        total: total.parse().context("dollars are a number")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_purchase() {
        let read =
            parse(" customer_id  date number_of_cds  dollar_value\n 00004 19970118  2   29.33\n").unwrap();
        let day = Date::constant(1997, 1, 18);
        assert_eq!(read, [Purchase { customer: "00004".to_owned(), day, cds: 2, total: 29.33 }]);
    }

    #[test]
    fn a_line_of_another_form_is_named() {
        for wrong in [
            "00001 19970101 1",
            "a 19970101 1 2.0",
            "1 19971301 1 2.0",
            "1 19970101 x 2.0",
            "1 19970101 1 x",
            "1 1 1 1 1",
        ] {
            let error = parse(&format!("00001 19970101 1 11.77\n{wrong}\n")).unwrap_err();
            assert_eq!(error.to_string(), "line 2", "{wrong}");
        }
        assert!(parse("\n").is_err());
    }
}
