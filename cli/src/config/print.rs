//! `dfnode config print`: a file that could be used as it is, with the origin of each value beside it.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::{Origin, Settings, keys, table_of};
use crate::args::NodeArgs;
use crate::exit::Failure;

/// Values are padded to this width, so that the origins stand below each other.
const VALUE_WIDTH: usize = 44;

/// The text of the resolved settings. Keys of clusters are named by their file and never shown.
pub(crate) fn print(settings: &Settings, defaults: &NodeArgs) -> Result<String, Failure> {
    let said = table_of(&settings.said)?;
    let defaults = table_of(defaults)?;
    let mut text = String::new();
    if let Some(file) = &settings.file {
        let _ = writeln!(text, "# read from {}", file.display());
    }
    for key in keys() {
        match said.get(&key).map(|value| (value, settings.origin(&key))) {
            Some((value, origin)) => line(&mut text, &key, value, origin),
            None => match defaults.get(&key) {
                Some(value) => line(&mut text, &key, value, &Origin::Default),
                None => {
                    let _ = writeln!(text, "# {key} is not set");
                }
            },
        }
    }
    if let Some(Value::Table(get)) = said.get("get") {
        part(&mut text, get, settings.origin("get"));
    }
    Ok(text)
}

fn part(text: &mut String, values: &Table, origin: &Origin) {
    text.push_str("\n[get]\n");
    for (key, value) in values {
        line(text, key, value, origin);
    }
}

fn line(text: &mut String, key: &str, value: &Value, origin: &Origin) {
    let setting = format!("{key} = {value}");
    let _ = writeln!(text, "{setting:VALUE_WIDTH$} # {origin}");
}
