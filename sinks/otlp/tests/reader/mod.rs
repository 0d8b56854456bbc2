//! A reader of export requests, made from the protocol's own description alone: strict, so that a field that we do not
//! write, or a type that does not belong, is an error.

use std::fmt;

/// One data point with all that it stands in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) resource: Vec<(String, Attribute)>,
    pub(crate) scope: (String, String),
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) unit: String,
    pub(crate) form: Form,
    pub(crate) attributes: Vec<(String, Attribute)>,
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) value: Value,
}

/// The kind of a metric, with its temporality and whether it is monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Gauge,
    Sum { temporality: u64, is_monotonic: bool },
    Histogram { temporality: u64 },
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attribute {
    Text(String),
    Number(i64),
}

/// The value of a data point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Double(f64),
    Histogram { count: u64, sum: f64, slots: Vec<u64>, bounds: Vec<f64> },
}

/// The data points of a request, in its order.
pub(crate) fn read(request: &[u8]) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for group in fields(request)? {
        let group = group.message(1, "a request")?;
        let (mut resource, mut scopes) = (Vec::new(), Vec::new());
        for field in fields(group)? {
            match field.number {
                1 => {
                    for attribute in fields(field.bytes()?)? {
                        resource.push(attribute_of(attribute.message(1, "a resource")?)?);
                    }
                }
                2 => scopes.push(field.bytes()?),
                other => return Err(format!("field {other} of a group")),
            }
        }
        for scope in scopes {
            read_scope(scope, &resource, &mut points)?;
        }
    }
    Ok(points)
}

fn read_scope(group: &[u8], resource: &[(String, Attribute)], points: &mut Vec<Point>) -> Result<(), String> {
    let mut scope = (String::new(), String::new());
    for field in fields(group)? {
        match field.number {
            1 => {
                for field in fields(field.bytes()?)? {
                    match field.number {
                        1 => scope.0 = field.text()?,
                        2 => scope.1 = field.text()?,
                        other => return Err(format!("field {other} of a scope")),
                    }
                }
            }
            2 => read_metric(field.bytes()?, resource, &scope, points)?,
            other => return Err(format!("field {other} of a scope's metrics")),
        }
    }
    Ok(())
}

fn read_metric(
    metric: &[u8],
    resource: &[(String, Attribute)],
    scope: &(String, String),
    points: &mut Vec<Point>,
) -> Result<(), String> {
    let (mut name, mut description, mut unit) = (String::new(), String::new(), String::new());
    let mut data = None;
    for field in fields(metric)? {
        match field.number {
            1 => name = field.text()?,
            2 => description = field.text()?,
            3 => unit = field.text()?,
            5 | 7 | 9 if data.is_none() => data = Some((field.number, field.bytes()?)),
            other => return Err(format!("field {other} of a metric")),
        }
    }
    let (kind, data) = data.ok_or("a metric without data")?;
    let (mut temporality, mut is_monotonic, mut found) = (0, false, Vec::new());
    for field in fields(data)? {
        match (kind, field.number) {
            (_, 1) => found.push(field.bytes()?),
            (7 | 9, 2) => temporality = field.varint()?,
            (7, 3) => is_monotonic = field.varint()? == 1,
            (_, other) => return Err(format!("field {other} of the data of a metric")),
        }
    }
    if found.is_empty() {
        return Err(format!("{name} has no points"));
    }
    let form = match kind {
        5 => Form::Gauge,
        7 => Form::Sum { temporality, is_monotonic },
        _ => Form::Histogram { temporality },
    };
    for point in found {
        let mut made = Point {
            resource: resource.to_vec(),
            scope: scope.clone(),
            name: name.clone(),
            description: description.clone(),
            unit: unit.clone(),
            form,
            attributes: Vec::new(),
            start: 0,
            time: 0,
            value: Value::Integer(0),
        };
        if kind == 9 {
            read_histogram(point, &mut made)?;
        } else {
            read_number(point, &mut made)?;
        }
        let mut keys: Vec<&str> = made.attributes.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("an attribute is there twice: {keys:?}"));
        }
        points.push(made);
    }
    Ok(())
}

fn read_number(point: &[u8], made: &mut Point) -> Result<(), String> {
    let mut values = 0;
    for field in fields(point)? {
        match field.number {
            2 => made.start = field.fixed()?,
            3 => made.time = field.fixed()?,
            4 => (made.value, values) = (Value::Double(f64::from_bits(field.fixed()?)), values + 1),
            6 => (made.value, values) = (Value::Integer(field.fixed()?.cast_signed()), values + 1),
            7 => made.attributes.push(attribute_of(field.bytes()?)?),
            other => return Err(format!("field {other} of a number's point")),
        }
    }
    if values == 1 { Ok(()) } else { Err(format!("{values} values of a point")) }
}

fn read_histogram(point: &[u8], made: &mut Point) -> Result<(), String> {
    let (mut count, mut sum, mut slots, mut bounds) = (0, f64::NAN, Vec::new(), Vec::new());
    let eights = |bytes: &[u8]| -> Result<Vec<u64>, String> {
        let (eights, rest) = bytes.as_chunks::<8>();
        if rest.is_empty() {
            Ok(eights.iter().map(|eight| u64::from_le_bytes(*eight)).collect())
        } else {
            Err("a rest".to_owned())
        }
    };
    for field in fields(point)? {
        match field.number {
            2 => made.start = field.fixed()?,
            3 => made.time = field.fixed()?,
            4 => count = field.fixed()?,
            5 => sum = f64::from_bits(field.fixed()?),
            6 => slots = eights(field.bytes()?)?,
            7 => bounds = eights(field.bytes()?)?.into_iter().map(f64::from_bits).collect(),
            9 => made.attributes.push(attribute_of(field.bytes()?)?),
            other => return Err(format!("field {other} of a histogram's point")),
        }
    }
    if slots.len() != bounds.len() + 1 || slots.iter().fold(0, |sum: u64, slot| sum.wrapping_add(*slot)) != count {
        return Err(format!("{} slots, {} bounds, {count} values", slots.len(), bounds.len()));
    }
    if !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(format!("bounds out of order: {bounds:?}"));
    }
    made.value = Value::Histogram { count, sum, slots, bounds };
    Ok(())
}

fn attribute_of(attribute: &[u8]) -> Result<(String, Attribute), String> {
    let (mut key, mut value) = (None, None);
    for field in fields(attribute)? {
        match field.number {
            1 => key = Some(field.text()?),
            2 => {
                for field in fields(field.bytes()?)? {
                    value = Some(match field.number {
                        1 => Attribute::Text(field.text()?),
                        3 => Attribute::Number(field.varint()?.cast_signed()),
                        other => return Err(format!("field {other} of a value")),
                    });
                }
            }
            other => return Err(format!("field {other} of an attribute")),
        }
    }
    Ok((key.ok_or("an attribute without a key")?, value.ok_or("an attribute without a value")?))
}

/// A field of a message.
struct Field<'a> {
    number: u64,
    content: Content<'a>,
}

enum Content<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> Result<&'a [u8], String> {
        if let Content::Bytes(bytes) = self.content {
            Ok(bytes)
        } else {
            Err(format!("field {} has no length", self.number))
        }
    }

    fn message(&self, number: u64, of: &str) -> Result<&'a [u8], String> {
        if self.number == number { self.bytes() } else { Err(format!("field {} of {of}", self.number)) }
    }

    fn text(&self) -> Result<String, String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|error| error.to_string())
    }

    fn varint(&self) -> Result<u64, String> {
        if let Content::Varint(number) = self.content {
            Ok(number)
        } else {
            Err(format!("field {} is no number", self.number))
        }
    }

    fn fixed(&self) -> Result<u64, String> {
        if let Content::Fixed(number) = self.content {
            Ok(number)
        } else {
            Err(format!("field {} is not of eight bytes", self.number))
        }
    }
}

fn fields(mut message: &[u8]) -> Result<Vec<Field<'_>>, String> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let head = varint(&mut message)?;
        let content = match head & 7 {
            0 => Content::Varint(varint(&mut message)?),
            1 => {
                let (eight, rest) = message.split_first_chunk::<8>().ok_or("cut off")?;
                message = rest;
                Content::Fixed(u64::from_le_bytes(*eight))
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).map_err(|error| error.to_string())?;
                let (bytes, rest) = message.split_at_checked(length).ok_or("cut off")?;
                message = rest;
                Content::Bytes(bytes)
            }
            other => return Err(format!("a field of type {other}")),
        };
        fields.push(Field { number: head >> 3, content });
    }
    Ok(fields)
}

fn varint(message: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or("cut off")?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number without an end".to_owned())
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// A line: what it stands in, then the point.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, description, unit, form, start, time, value, .. } = self;
        write!(f, "{name} [{unit}] {description:?} {form:?}")?;
        self.attributes.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))?;
        write!(f, " {start}..{time} {value:?}")
    }
}
