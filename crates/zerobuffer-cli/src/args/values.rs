//! Values of options: sizes, counts and times.

pub(super) fn timeout() -> clap::builder::RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(-1..)
}

/// A number of bytes, with or without a 1024-based unit.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        unit => return Err(format!("unknown unit `{unit}`; K, M and G are known")),
    };
    let number: usize = digits.parse().map_err(|_| "not a number of bytes, as 4096 or 256M".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "more bytes than this machine can count".to_owned())
}

pub(super) fn nonzero_size(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("at least 1 byte is needed".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Permission bits, as chmod(1) takes them.
pub(super) fn permissions(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err("not octal permissions, as 0600 or 660".to_owned()),
    }
}

pub(super) fn nonzero_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=4096).contains(&count) => Ok(count),
        _ => Err("a number between 1 and 4096".to_owned()),
    }
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds between 0.1 and 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("256MB"), Ok(268_435_456));
        assert_eq!(size("4k"), Ok(4096));
        assert!(size("-1").is_err() && size("12x").is_err() && size("99999999999G").is_err());
        assert!(nonzero_size("0").is_err());
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!((permissions("0600"), permissions("660")), (Ok(0o600), Ok(0o660)));
        for bad in ["", "rw", "0o600", "-600", "+600", "888", "77777"] {
            assert!(permissions(bad).is_err(), "{bad}");
        }
    }
}
