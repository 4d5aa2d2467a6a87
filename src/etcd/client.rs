//! One endpoint of etcd, asked over gRPC.

use super::{
    messages::{
        AuthenticateRequest, AuthenticateResponse, Compare, DeleteRequest, KeyValue, LeaseGrantRequest,
        LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse,
        PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreate, WatchRequest,
        WatchResponse, compare, request_op,
    },
    txn::{Entry, Event, Then, Txn, When},
};
use crate::config::{EtcdConfig, Secret};
use http::uri::PathAndQuery;
use prost::Message;
use std::{error::Error as _, future::Future, time::Duration};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;
use zeroize::Zeroizing;

/// Until TCP's part of a connection stands. TLS comes after it, and has what is left of a request's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One request, the beginning of a stream, or until a connection stands.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that says nothing is asked for a sign of life this often. etcd takes more than one in 5 s for abuse.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(4);
/// Keys of one page of a range.
const PAGE: i64 = 200;
/// Pages of one range; more is no shared record of decant's.
const PAGES_MAX: usize = 50;

/// How etcd is reached; the same for every endpoint.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// For `https` endpoints.
    pub tls: Tls,
    /// User and password.
    pub login: Option<(String, Secret)>,
}

impl From<&EtcdConfig> for ClientSettings {
    fn from(config: &EtcdConfig) -> ClientSettings {
        ClientSettings {
            tls: Tls { ca: config.ca.clone(), identity: config.identity.clone() },
            login: config.login.clone(),
        }
    }
}

/// PEM, as read from files.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Whose certificates are believed; none: those that the system believes.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate and key.
    pub identity: Option<(Vec<u8>, Secret)>,
}

/// Why etcd did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It may have been done all the same.
    #[error("{0}")]
    Unanswered(String),
    /// It was not done, and will not be.
    #[error("{0}")]
    Refused(String),
}

/// What stood under a prefix at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub revision: i64,
    pub entries: Vec<Entry>,
}

/// One connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects, and logs in where there is a user.
    pub async fn connect(url: &str, settings: &ClientSettings) -> Result<Client, Fault> {
        let endpoint = endpoint(url, &settings.tls).map_err(|fault| Fault::Refused(told(&fault)))?;
        // Who takes the connection and never shakes hands holds nobody up: another endpoint is to be tried.
        let connecting = async { endpoint.connect().await.map_err(|fault| Fault::Unanswered(told(&fault))) };
        let channel = in_time(connecting).await?;
        let mut client = Client { channel, token: None };
        if let Some((user, password)) = &settings.login {
            let password = Zeroizing::new(String::from_utf8_lossy(password.expose()).into_owned());
            let asked = AuthenticateRequest { name: user.clone(), password: password.to_string() };
            let answer: AuthenticateResponse = client.ask("/etcdserverpb.Auth/Authenticate", asked).await?;
            let token = answer.token.parse().map_err(|_| Fault::Refused("etcd gave a token that is none".into()))?;
            client.token = Some(token);
        }
        Ok(client)
    }

    /// Everything under the prefix, as the majority of the cluster knows it.
    pub async fn range(&self, prefix: &str) -> Result<Snapshot, Fault> {
        let (mut from, end) = (prefix.as_bytes().to_vec(), end_of(prefix));
        let (mut entries, mut revision) = (Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let asked = RangeRequest { key: from, range_end: end.clone(), limit: PAGE, sort_order: 1 };
            let page: RangeResponse = self.ask("/etcdserverpb.KV/Range", asked).await?;
            // What changed between two pages comes again by the watch, which begins after the first.
            if revision == 0 {
                revision = page.header.unwrap_or_default().revision;
            }
            from = page.kvs.last().map(|last| [last.key.as_slice(), b"\0"].concat()).unwrap_or_default();
            entries.extend(page.kvs.into_iter().filter_map(entry));
            if !page.more {
                return Ok(Snapshot { revision, entries });
            }
        }
        Err(Fault::Refused(format!("there are more than {} keys under {prefix}", PAGE as usize * PAGES_MAX)))
    }

    /// The last keys under the prefix, the last first.
    pub async fn last(&self, prefix: &str, most: usize) -> Result<Vec<Entry>, Fault> {
        let mut end = end_of(prefix);
        let mut entries: Vec<Entry> = Vec::new();
        while entries.len() < most {
            let limit = PAGE.min((most - entries.len()) as i64);
            let asked = RangeRequest { key: prefix.as_bytes().to_vec(), range_end: end, limit, sort_order: 2 };
            let page: RangeResponse = self.ask("/etcdserverpb.KV/Range", asked).await?;
            end = page.kvs.last().map(|last| last.key.clone()).unwrap_or_default();
            entries.extend(page.kvs.into_iter().filter_map(entry));
            if !page.more {
                break;
            }
        }
        Ok(entries)
    }

    /// Whether every condition held, so that it was done.
    pub async fn commit(&self, txn: &Txn) -> Result<bool, Fault> {
        let asked = TxnRequest {
            compare: txn.when.iter().map(compared).collect(),
            success: txn.then.iter().map(requested).collect(),
        };
        let answer: TxnResponse = self.ask("/etcdserverpb.KV/Txn", asked).await?;
        Ok(answer.succeeded)
    }

    /// A lease of so many seconds; its id.
    pub async fn grant(&self, seconds: u64) -> Result<i64, Fault> {
        let asked = LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX) };
        let answer: LeaseGrantResponse = self.ask("/etcdserverpb.Lease/LeaseGrant", asked).await?;
        Ok(answer.id)
    }

    /// Whether the lease is still there, and now begins anew.
    pub async fn keep_alive(&self, lease: i64) -> Result<bool, Fault> {
        let asked = self.request(tokio_stream::once(LeaseKeepAliveRequest { id: lease }));
        let work = async {
            let mut answers: Streaming<LeaseKeepAliveResponse> =
                self.open("/etcdserverpb.Lease/LeaseKeepAlive", asked).await?;
            answers.message().await.map_err(|status| fault(&status))
        };
        Ok(in_time(work).await?.is_some_and(|answer| answer.ttl > 0))
    }

    /// The lease ends, and its keys with it.
    pub async fn revoke(&self, lease: i64) -> Result<(), Fault> {
        let asked = LeaseRevokeRequest { id: lease };
        let _: LeaseRevokeResponse = self.ask("/etcdserverpb.Lease/LeaseRevoke", asked).await?;
        Ok(())
    }

    /// Every change under the prefix from `revision` on.
    pub async fn watch(&self, prefix: &str, revision: i64) -> Result<Watch, Fault> {
        let create =
            WatchCreate { key: prefix.as_bytes().to_vec(), range_end: end_of(prefix), start_revision: revision };
        let asked = WatchRequest { create: Some(create) };
        // The stream of requests stays open as long as the answers are read.
        let asked = self.request(tokio_stream::once(asked).chain(tokio_stream::pending()));
        let answers = in_time(self.open("/etcdserverpb.Watch/Watch", asked)).await?;
        Ok(Watch { answers })
    }

    async fn ask<Q, A>(&self, path: &'static str, asked: Q) -> Result<A, Fault>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let request = self.request(asked);
        in_time(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Fault::Unanswered(told(&error)))?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| fault(&status))
        })
        .await
    }

    async fn open<Q, A>(
        &self,
        path: &'static str,
        request: Request<impl tokio_stream::Stream<Item = Q> + Send + 'static>,
    ) -> Result<Streaming<A>, Fault>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Fault::Unanswered(told(&error)))?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let answer = grpc.streaming(request, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| fault(&status))
    }

    /// With the token; and only of a member of the cluster that has a leader: another one would answer what once was, and watch in vain.
    fn request<Q>(&self, asked: Q) -> Request<Q> {
        let mut request = Request::new(asked);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

/// The changes under a prefix, as they come.
#[derive(Debug)]
pub struct Watch {
    answers: Streaming<WatchResponse>,
}

impl Watch {
    /// The next changes, in order; may be none. An error ends the watch. Nothing is lost where this is cut off while it waits.
    pub async fn next(&mut self) -> Result<Vec<Event>, Fault> {
        let answer = self.answers.message().await.map_err(|status| fault(&status))?;
        let answer = answer.ok_or_else(|| Fault::Unanswered("etcd ended the watch".into()))?;
        if answer.compact_revision != 0 {
            return Err(Fault::Unanswered("what was missed is compacted away".into()));
        }
        if answer.canceled {
            return Err(Fault::Unanswered(format!("etcd ended the watch: {}", answer.cancel_reason)));
        }
        let events = answer.events.into_iter().filter_map(|event| {
            let entry = entry(event.kv?)?;
            Some(if event.kind == 1 { Event::Gone(entry.key) } else { Event::Put(entry) })
        });
        Ok(events.collect())
    }
}

fn endpoint(url: &str, tls: &Tls) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .keep_alive_while_idle(true);
    if !url.starts_with("https://") {
        return Ok(endpoint);
    }
    let mut config = match &tls.ca {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key.expose()));
    }
    endpoint.tls_config(config)
}

async fn in_time<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match timeout(REQUEST_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(Fault::Unanswered(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    }
}

/// These mean that etcd looked at what was asked, and did not do it.
const REFUSALS: [Code; 7] = [
    Code::InvalidArgument,
    Code::FailedPrecondition,
    Code::PermissionDenied,
    Code::Unauthenticated,
    Code::ResourceExhausted,
    Code::NotFound,
    Code::Unimplemented,
];

fn fault(status: &Status) -> Fault {
    let text = match status.message() {
        "" => format!("{:?}", status.code()),
        text => text.to_owned(),
    };
    if REFUSALS.contains(&status.code()) { Fault::Refused(text) } else { Fault::Unanswered(text) }
}

/// The transport's own text says that it failed; what is behind it says why.
fn told(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// The first key behind the prefix. Prefixes end with a `/`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// A key that is no text is none of decant's.
fn entry(kv: KeyValue) -> Option<Entry> {
    let key = String::from_utf8(kv.key).ok()?;
    Some(Entry { key, value: kv.value, created: kv.create_revision, changed: kv.mod_revision })
}

fn compared(when: &When) -> Compare {
    let (target, key, wanted) = match when {
        When::Absent(key) => (1, key, compare::Target::CreateRevision(0)),
        When::Same(key, created) => (1, key, compare::Target::CreateRevision(*created)),
        When::Unchanged(key, changed) => (2, key, compare::Target::ModRevision(*changed)),
    };
    Compare { result: 0, target, key: key.clone().into_bytes(), wanted: Some(wanted) }
}

fn requested(then: &Then) -> RequestOp {
    let request = match then {
        Then::Put { key, value, lease } => request_op::Request::Put(PutRequest {
            key: key.clone().into_bytes(),
            value: value.clone(),
            lease: lease.unwrap_or(0),
        }),
        Then::Delete(key) => request_op::Request::Delete(DeleteRequest { key: key.clone().into_bytes() }),
    };
    RequestOp { request: Some(request) }
}
