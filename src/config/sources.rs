//! From the layers to a [`Config`]: file, then environment, then flags.

use super::fault::{ConfigFaults, Fault, Place, Warning};
use super::file::FileLayer;
use super::image::Image;
use super::model::Config;
use super::review::{ENVIRONMENT, FLAGS, Review};
use super::{environment, file, structure, validate};
use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};
use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

/// The file that is read where none is named.
pub const DEFAULT_FILE: &str = "proxy.toml";

/// Where to look. Nothing else is looked at: a test that passes an empty environment depends on none.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `None`: [`DEFAULT_FILE`] in the working directory, if it exists.
    pub file: Option<PathBuf>,
    /// All variables; those that are none of decant's are skipped.
    pub environment: Vec<(OsString, OsString)>,
    pub flags: Vec<FlagValue>,
}

/// A flag that sets a key.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// The key's path, such as `log.format`.
    pub key: &'static str,
    /// The flag, with its dashes.
    pub flag: &'static str,
    pub value: String,
}

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Warning>,
}

impl Sources {
    /// A named file and the environment of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<FlagValue>) -> Sources {
        Sources { file, environment: std::env::vars_os().collect(), flags }
    }
}

/// Reads, merges and checks everything. `Err` holds every fault; its `Display` is the report.
pub fn load(sources: Sources) -> Result<Loaded, ConfigFaults> {
    let path = sources.file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let absent = sources.file.is_none() && !path.exists();
    let layer = match absent {
        true => FileLayer::default(),
        false => file::read(&path).map_err(ConfigFaults::new)?,
    };
    let name = match absent {
        true => format!("{DEFAULT_FILE} (not found here)"),
        false => path.display().to_string(),
    };
    let (mut review, merged) = merge(name, layer, sources);
    let sound = structure::sound_part(&merged, &mut Vec::new(), &mut review);
    let config = match Value::from(sound).deserialize::<Image>() {
        Ok(image) => validate::config(image, &mut review),
        Err(error) => {
            // The schema lets nothing through that the image refuses; if it did, this is better than a panic. Only the
            // path is shown: the error's text could quote a value.
            let key = error.path.join(".");
            review.fault(&key, "is not what this key holds", "compare it with the proxy.toml of the distribution");
            None
        }
    };
    match config {
        Some(config) if review.faults.is_empty() => Ok(Loaded { config, warnings: review.warnings }),
        Some(_) | None => Err(ConfigFaults::new(with_reason(review.faults))),
    }
}

/// A configuration is refused only with a reason: if a check forgot to give one, this says so.
fn with_reason(mut faults: Vec<Fault>) -> Vec<Fault> {
    if faults.is_empty() {
        faults.push(Fault {
            place: Place::File { name: DEFAULT_FILE.to_owned(), line: None },
            key: String::new(),
            what: "was refused, and decant does not say why: that is a fault of decant's".to_owned(),
            todo: "report it with the file, without its secrets".to_owned(),
        });
    }
    faults
}

fn merge(name: String, layer: FileLayer, sources: Sources) -> (Review, Dict) {
    let (environment, mut faults) = environment::collect(sources.environment);
    let flag_names =
        sources.flags.iter().map(|flag| (flag.key.to_owned(), flag.flag.to_owned())).collect::<BTreeMap<_, _>>();
    let flags = sources.flags.into_iter().map(|flag| (flag.key, Value::from(flag.value)));
    let mut figment = Figment::new()
        .merge(Layer { name: "file", dict: layer.dict })
        .merge(Layer { name: ENVIRONMENT, dict: environment });
    for (key, value) in flags {
        let dict = match figment::util::nest(key, value) {
            Value::Dict(_, dict) => dict,
            _ => Dict::new(),
        };
        figment = figment.merge(Layer { name: FLAGS, dict });
    }
    let merged = match figment.data() {
        Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
        Err(error) => {
            // None of our providers fails.
            let place = Place::File { name: name.clone(), line: None };
            faults.push(Fault { place, key: String::new(), what: error.to_string(), todo: "report this".to_owned() });
            Dict::new()
        }
    };
    (Review::new(figment, name, layer.lines, flag_names, faults), merged)
}

/// One layer for figment, which tags every value of it with the layer's name.
struct Layer {
    name: &'static str,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}
