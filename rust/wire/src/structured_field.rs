//! The two structured field shapes that WebTransport's headers have (RFC 9651): a List of Strings
//! for WT-Available-Protocols, an Item that is a String for WT-Protocol.
//!
//! webtrans-http3-16 §3.3: a member that is not a String makes the whole field ignored, parameters
//! are ignored. So everything is parsed, because a syntax error anywhere also makes the field
//! ignored (RFC 9651 §4.2), but only Strings are kept.

/// The strings of a List; `None` when the field is to be ignored.
///
/// A field that was sent in several lines is joined with `, ` first (RFC 9110 §5.3).
pub fn parse_string_list(field: &str) -> Option<Vec<String>> {
    let mut parser = Parser::new(field)?;
    let mut strings = Vec::new();
    parser.skip(b" ");
    while !parser.rest.is_empty() {
        strings.push(parser.string()?);
        parser.parameters()?;
        parser.skip(b" \t");
        if parser.rest.is_empty() {
            break;
        }
        parser.expect(b',')?;
        parser.skip(b" \t");
        // RFC 9651 §4.2.1: no comma at the end.
        parser.peek()?;
    }
    Some(strings)
}

/// The string of an Item; `None` when the field is to be ignored.
pub fn parse_string_item(field: &str) -> Option<String> {
    let mut parser = Parser::new(field)?;
    parser.skip(b" ");
    let string = parser.string()?;
    parser.parameters()?;
    parser.skip(b" ");
    parser.rest.is_empty().then_some(string)
}

/// A List of Strings; `None` when one of them has characters that a String cannot have.
pub fn format_string_list<S: AsRef<str>>(strings: &[S]) -> Option<String> {
    let mut out = String::new();
    for string in strings {
        if !out.is_empty() {
            out.push_str(", ");
        }
        push_string(string.as_ref(), &mut out)?;
    }
    Some(out)
}

/// An Item that is a String; `None` when it has characters that a String cannot have.
pub fn format_string_item(string: &str) -> Option<String> {
    let mut out = String::with_capacity(string.len() + 2);
    push_string(string, &mut out)?;
    Some(out)
}

/// RFC 9651 §4.1.6
fn push_string(string: &str, out: &mut String) -> Option<()> {
    out.push('"');
    for character in string.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => return None,
        }
    }
    out.push('"');
    Some(())
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn new(field: &'a str) -> Option<Self> {
        field.is_ascii().then_some(Self {
            rest: field.as_bytes(),
        })
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.take(|byte| bytes.contains(&byte));
    }

    fn take(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self
            .rest
            .iter()
            .position(|&byte| !accept(byte))
            .unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest;
        taken
    }

    /// RFC 9651 §4.2.5
    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(string),
                b'\\' => match self.next()? {
                    escaped @ (b'"' | b'\\') => string.push(char::from(escaped)),
                    _ => return None,
                },
                byte @ b' '..=b'~' => string.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    /// RFC 9651 §4.2.3.2
    fn parameters(&mut self) -> Option<()> {
        while self.peek() == Some(b';') {
            self.next();
            self.skip(b" ");
            if !matches!(self.peek()?, b'a'..=b'z' | b'*') {
                return None;
            }
            self.take(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
            if self.peek() == Some(b'=') {
                self.next();
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// RFC 9651 §4.2.3.1, without keeping the value.
    fn bare_item(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b'a'..=b'z' | b'A'..=b'Z' | b'*' => {
                self.take(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Some(())
            }
            b'?' => {
                self.next();
                matches!(self.next()?, b'0' | b'1').then_some(())
            }
            b':' => self.byte_sequence(),
            b'@' => {
                self.next();
                // A Date is an Integer.
                (self.number()? == Number::Integer).then_some(())
            }
            b'%' => self.display_string(),
            _ => None,
        }
    }

    /// RFC 9651 §4.2.4
    fn number(&mut self) -> Option<Number> {
        if self.peek() == Some(b'-') {
            self.next();
        }
        let integer = self.take(|byte| byte.is_ascii_digit()).len();
        if self.peek() != Some(b'.') {
            return (1..=15).contains(&integer).then_some(Number::Integer);
        }
        self.next();
        let fraction = self.take(|byte| byte.is_ascii_digit()).len();
        ((1..=12).contains(&integer) && (1..=3).contains(&fraction)).then_some(Number::Decimal)
    }

    /// RFC 9651 §4.2.7; padding is not required of a sender.
    fn byte_sequence(&mut self) -> Option<()> {
        self.expect(b':')?;
        let digits = self.take(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        let padding = self.take(|byte| byte == b'=');
        let possible = digits.len() % 4 != 1
            && (padding.is_empty()
                || padding.len() < 3 && (digits.len() + padding.len()).is_multiple_of(4));
        self.expect(b':')?;
        possible.then_some(())
    }

    /// RFC 9651 §4.2.10
    fn display_string(&mut self) -> Option<()> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return std::str::from_utf8(&text).ok().map(drop),
                b'%' => text.push(self.hex_digit()? << 4 | self.hex_digit()?),
                byte @ b' '..=b'~' => text.push(byte),
                _ => return None,
            }
        }
    }

    /// Lower case only.
    fn hex_digit(&mut self) -> Option<u8> {
        match self.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Number {
    Decimal,
    Integer,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(field: &str) -> Option<Vec<String>> {
        parse_string_list(field)
    }

    #[test]
    fn lists_keep_their_order_and_lose_their_parameters() {
        assert_eq!(list(r#""moq-00", "chat""#).unwrap(), ["moq-00", "chat"]);
        assert_eq!(list("  \"a\"\t,\t\"b\" ").unwrap(), ["a", "b"]);
        assert_eq!(
            list(r#""a";q=1;x;y="z";t=tok/en;b=?1;d=-1.5;s=:AA==:, "b""#).unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            list(r#""a";when=@1659578233;name=%"f%c3%bc""#).unwrap(),
            ["a"]
        );
        assert_eq!(list(r#""a\"b\\c""#).unwrap(), [r#"a"b\c"#]);
        assert_eq!(list(""), Some(vec![]));
        assert_eq!(list("   "), Some(vec![]));
    }

    #[test]
    fn a_member_that_is_no_string_ignores_the_field() {
        for field in [
            "moq-00",
            r#""a", 1"#,
            r#""a", tok"#,
            r#"("a" "b")"#,
            "?1",
            ":AA==:",
            "\"a\", @1",
        ] {
            assert_eq!(list(field), None, "{field}");
        }
    }

    #[test]
    fn a_syntax_error_anywhere_ignores_the_field() {
        for field in [
            r#""a","#,
            r#""a" "b""#,
            r#","a""#,
            r#""a"#,
            r#""a\n""#,
            "\"\u{e9}\"",
            "\"a\u{7f}\"",
            r#""a";"#,
            r#""a";Q=1"#,
            r#""a";q="#,
            r#""a";q=1."#,
            r#""a";q=1234567890123456"#,
            r#""a";q=1.2345"#,
            r#""a";q=?2"#,
            r#""a";q=:A:"#,
            r#""a";q=:AA=:"#,
            r#""a";q=:AA==="#,
            r#""a";q=@1.5"#,
            r#""a";q=%"%C3""#,
            r#""a";q=%"%c3""#,
            r#""a";q=(1)"#,
            r#""a";q=-"#,
        ] {
            assert_eq!(list(field), None, "{field}");
        }
    }

    #[test]
    fn an_item_is_one_string() {
        assert_eq!(parse_string_item(r#" "moq-00";v=1 "#).unwrap(), "moq-00");
        for field in ["moq-00", "", r#""a", "b""#, r#""a"x"#] {
            assert_eq!(parse_string_item(field), None, "{field}");
        }
    }

    #[test]
    fn what_is_formatted_can_be_parsed() {
        let strings = ["moq-00", "", r#"a"b\c"#, " "];
        let field = format_string_list(&strings).unwrap();
        assert_eq!(list(&field).unwrap(), strings);
        assert_eq!(format_string_item("chat").unwrap(), r#""chat""#);
        assert_eq!(format_string_item("\u{e9}"), None);
        assert_eq!(format_string_list(&["a", "\n"]), None);
    }
}
