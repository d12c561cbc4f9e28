use super::*;

const HEADER: &str = " customer_id  date number_of_cds  dollar_value\r\n";

fn fault_of(lines: &str) -> (usize, String) {
    let bad = parse(format!("{HEADER}{lines}").as_bytes()).unwrap_err();
    (bad.line, bad.fault)
}

#[test]
fn the_history_that_comes_with_the_program_is_whole() {
    let history = read(None).unwrap();
    assert_eq!(history.customers.len(), 23_570);
    assert_eq!(history.purchases(), 69_659);
    assert_eq!(history.last_day, Timestamp::from_date(1998, 6, 30));
    let all = || history.customers.values().flatten();
    let items: u64 = all().map(|purchase| u64::from(purchase.quantity)).sum();
    assert_eq!(items, 167_881);
    let total = Money::sum(all().map(|purchase| purchase.total)).unwrap();
    assert_eq!(total.to_string(), "2500315.63");
}

#[test]
fn a_customers_purchases_are_in_order_of_date_then_line() {
    let text = "b 19970103 1 3.00\na 19970102 2 0\nb 19970101 1 1.00\nb 19970101 1 2.00";
    let history = parse(text.as_bytes()).unwrap();
    let lines: Vec<usize> = history.customers["b"].iter().map(|p| p.line).collect();
    assert_eq!(lines, [3, 4, 1]);
    assert_eq!(history.last_day, Timestamp::from_date(1997, 1, 3));
    assert_eq!(history.customers["a"][0].total, Money::ZERO);
}

#[test]
fn packed_and_plain_text_read_the_same() {
    let text = b"1 19970101 1 3.00\n";
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, text).unwrap();
    assert_eq!(unpacked(packed.finish().unwrap()).unwrap(), text);
    assert_eq!(unpacked(text.to_vec()).unwrap(), text);
}

#[test]
fn a_line_that_cannot_be_understood_is_named() {
    let good = "00001 19970101 1 11.77\r\n";
    let cases = [
        ("00001 19970101 1", "3 columns"),
        ("00001 19970101 1 11.77 9", "5 columns"),
        ("", "0 columns"),
        ("00001 19970101 1 -0.01", "amount \"-0.01\""),
        ("00001 19970101 1 11,77", "amount \"11,77\""),
        ("00001 19970101 1 11.777", "amount \"11.777\""),
        ("00001 19970101 1 99999999999999999999", "amount"),
        ("00001 19970101 one 11.77", "number of items \"one\""),
        ("00001 19970101 -1 11.77", "number of items \"-1\""),
        ("00001 19970230 1 11.77", "date \"19970230\""),
        ("00001 19971301 1 11.77", "date \"19971301\""),
        ("00001 1997-01-01 1 11.77", "date \"1997-01-01\""),
        ("{00001} 19970101 1 11.77", "customer \"{00001}\""),
    ];
    for (line, fault) in cases {
        let (number, found) = fault_of(&format!("{good}{line}\r\n{good}"));
        assert_eq!(number, 3, "{line}");
        assert!(found.contains(fault), "{line}: {found}");
    }
    let not_text = [HEADER.as_bytes(), b"\xff\xfe\n"].concat();
    assert_eq!(parse(&not_text).unwrap_err().line, 2);
    assert!(
        parse(HEADER.as_bytes())
            .unwrap_err()
            .fault
            .contains("no purchase")
    );
}
