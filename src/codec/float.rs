//! Floats as PHP prints them with `serialize_precision = -1`: the shortest digits that read back as the same float, plain
//! between 1e-4 and 17 digits, else with an exponent (`1.0E+25`, `1.5e-7`).

use std::io::Write;

/// PHP prints with an exponent when more digits than this would stand before the point.
const PLAIN_DIGITS_MAX: i32 = 17;

/// A float's neighbours are too near for fewer digits to lie halfway between two spellings of it.
const TIE_DIGITS_MIN: usize = 15;

/// Appends a finite float. `exponent` is the letter: serialize writes `E`, json_encode `e`.
pub(super) fn write_finite(out: &mut Vec<u8>, float: f64, exponent: u8) {
    debug_assert!(float.is_finite());
    if float.is_sign_negative() {
        out.push(b'-');
    }
    let scientific = shortest(float.abs());
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    // The number of digits before the point; 0.1 has none, 0.01 has -1.
    let point = if float == 0.0 { 1 } else { power.parse::<i32>().unwrap_or(0) + 1 };
    if !(-3..=PLAIN_DIGITS_MAX).contains(&point) {
        write_with_exponent(out, &digits, point - 1, exponent);
    } else if point <= 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + point.unsigned_abs() as usize, b'0');
        out.extend_from_slice(&digits);
    } else {
        let whole = point as usize;
        if digits.len() <= whole {
            out.extend_from_slice(&digits);
            out.resize(out.len() + whole - digits.len(), b'0');
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

/// "d.ddde±n" with the fewest digits that read back as this float, and of those the nearest, as zend_dtoa in mode 0.
fn shortest(float: f64) -> String {
    let shortest = format!("{float:e}");
    let digits = shortest.bytes().take_while(|&b| b != b'e').filter(u8::is_ascii_digit).count();
    if digits < TIE_DIGITS_MIN {
        return shortest;
    }
    // Halfway between two spellings zend_dtoa takes the even digit, and `{:e}` the upper one. With a precision Rust
    // rounds to even too, but does not look whether the result still reads back.
    let even = format!("{float:.*e}", digits - 1);
    if even.parse() == Ok(float) { even } else { shortest }
}

fn write_with_exponent(out: &mut Vec<u8>, digits: &[u8], power: i32, exponent: u8) {
    out.extend_from_slice(&digits[..1]);
    out.push(b'.');
    out.extend_from_slice(if digits.len() > 1 { &digits[1..] } else { b"0" });
    out.push(exponent);
    let _infallible = write!(out, "{power:+}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_php_prints_them() {
        for (float, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.00001, "1.0E-5"),
            (-1.5e-7, "-1.5E-7"),
            (1e14, "100000000000000"),
            (1e15, "1000000000000000"),
            (1e16, "10000000000000000"),
            (1e17, "1.0E+17"),
            (123456789012345678.0, "1.2345678901234568E+17"),
            (1e100, "1.0E+100"),
            (5e-324, "5.0E-324"),
            (f64::MAX, "1.7976931348623157E+308"),
            (123456.789, "123456.789"),
            // Exactly between …312 and …313: even wins.
            (2f64.powi(-25), "2.9802322387695312E-8"),
            (9007199254740993.0, "9007199254740992"),
            (5e-324 * 3.0, "1.5E-323"),
        ] {
            let mut out = Vec::new();
            write_finite(&mut out, float, b'E');
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
