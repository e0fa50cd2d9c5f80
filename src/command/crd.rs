//! `dms-operator crd`: the custom resource definitions as YAML, one file per kind or one stream.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Number, Value};

use super::CommandError;
use crate::api;

/// Arguments of `dms-operator crd`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write `<plural>.yaml` files into; created when missing. Without it, all go to standard output as one
    /// YAML stream, fit for `kubectl apply --server-side -f -`.
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

/// Writes the definitions.
pub fn run(args: &Args) -> Result<ExitCode, CommandError> {
    let documents = documents()?;
    if let Some(folder) = &args.out_dir {
        let failed = |path: &Path, error| {
            let message = format!("{} could not be written; check the path and its rights", path.display());
            CommandError::because(message, error)
        };
        fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        for Document { plural, yaml } in documents {
            let path = folder.join(format!("{plural}.yaml"));
            fs::write(&path, yaml).map_err(|error| failed(&path, error))?;
        }
    } else {
        let stream = documents.into_iter().map(|document| document.yaml).collect::<Vec<_>>().join("---\n");
        std::io::stdout()
            .write_all(stream.as_bytes())
            .map_err(|error| CommandError::because("standard output was closed before all was written", error))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One definition.
struct Document {
    /// Plural name of the kind, which names its file.
    plural: String,
    yaml: String,
}

fn documents() -> Result<Vec<Document>, CommandError> {
    api::crds()
        .into_iter()
        .map(|crd| {
            let plural = crd.spec.names.plural.clone();
            let unwritable = |cause: Box<dyn std::error::Error + Send + Sync>| {
                CommandError::because(format!("the definition of {plural} has no YAML form"), cause)
            };
            let mut value = serde_json::to_value(&crd).map_err(|error| unwritable(error.into()))?;
            whole_numbers(&mut value);
            let yaml = serde_saphyr::to_string(&value).map_err(|error| unwritable(error.into()))?;
            Ok(Document { plural, yaml })
        })
        .collect()
}

/// The definition's type holds every bound as a float. Written as `9.007199254740991e15`, people could not read it and
/// some tools would not take it as the integer that it is.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().and_then(whole) {
                *number = whole;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn whole(number: f64) -> Option<Number> {
    // `{:.0}` prints a float below 2^53 exactly, so parsing it back loses nothing.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0)
        .then(|| format!("{number:.0}").parse::<i64>().ok().map(Number::from))
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_whole_floats_become_integers() {
        let mut value = json!({"a": [1.0, 0.5, -1.0, 9_007_199_254_740_991.0, 1e300, 3], "b": {"c": 0.0}, "d": "1.0"});
        whole_numbers(&mut value);
        assert_eq!(value, json!({"a": [1, 0.5, -1, 9_007_199_254_740_991_i64, 1e300, 3], "b": {"c": 0}, "d": "1.0"}));
    }

    #[test]
    fn the_definitions_survive_the_way_through_yaml() {
        for (Document { plural, yaml }, crd) in documents().unwrap().iter().zip(api::crds()) {
            let back: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
                serde_saphyr::from_str(yaml).unwrap();
            assert_eq!(back, crd, "{plural}");
        }
    }
}
