//! Every endpoint of etcd, asked once.

use super::{Finding, Findings};
use crate::{
    config::EtcdConfig,
    etcd::{Client, ClientSettings},
    fleet::Keys,
};

pub(super) async fn probe(config: &EtcdConfig, settings: &ClientSettings, stash: &str) -> Vec<Finding> {
    let mut list = Vec::new();
    for endpoint in &config.endpoints {
        let mut findings = Findings::of(stash, format!("etcd {endpoint}"));
        let read = async {
            let client = Client::connect(endpoint, settings).await?;
            client.range(Keys::new(&config.prefix, stash).root()).await
        };
        match read.await {
            Ok(read) if read.entries.is_empty() => findings.ok("etcd", "it answers, and holds no record yet"),
            Ok(_) => findings.ok("etcd", "it answers, and holds a record"),
            Err(fault) => findings.fail(
                "etcd",
                fault.to_string(),
                "decant starts only once etcd or a fence tells it of the phase: mend etcd, or fleet.etcd.endpoints",
            ),
        }
        list.extend(findings.list);
    }
    list
}
