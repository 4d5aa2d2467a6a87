//! What is said to a server right after connecting to it, before anybody else may use the connection.

use super::{RedisFailure, Script, Told, refused, value::into_bytes};
use redis::{RedisError, Value, aio::MultiplexedConnection};
use std::{future::Future, pin::Pin, sync::Arc};

/// What the connection is called: every script that is sent on it is told that name last. Or why it is not to be used.
pub type Greeting<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// Decides whether a server that has just been connected to may be used.
pub trait Greeter: Send + Sync {
    /// An error keeps the connection from ever being used.
    fn greet<'a>(&'a self, newcomer: &'a mut Newcomer) -> Greeting<'a>;
}

/// A connection that nobody but its greeter uses yet.
pub struct Newcomer {
    connection: MultiplexedConnection,
    /// Names the server's process: another one, also on the same files, has another. Scripts of the greeter are told this last.
    pub run_id: Arc<str>,
}

impl Newcomer {
    /// INFO, which every Redis knows, and no proxy passes on: what decant remembers of a server is of this process.
    pub(super) async fn introduce(mut connection: MultiplexedConnection) -> Result<Newcomer, RedisError> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let told = connection.send_packed_command(&info).await?.extract_error()?;
        let text = into_bytes(told).unwrap_or_default();
        let run_id = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"run_id:"));
        match run_id.map(|id| String::from_utf8_lossy(id.trim_ascii()).into_owned()).filter(|id| !id.is_empty()) {
            Some(run_id) => Ok(Newcomer { connection, run_id: run_id.into() }),
            None => Err(std::io::Error::other("INFO tells no run_id: is it Redis itself, and no proxy?").into()),
        }
    }

    /// As [`super::Shard::script`], on this connection.
    ///
    /// # Errors
    /// The server refused it, or the connection broke.
    pub async fn script(
        &mut self,
        script: &'static Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<Told, RedisFailure> {
        let call = script.call(keys, args, &self.run_id);
        match self.send(&call).await {
            Err(RedisFailure::Refused { code, .. }) if code == "NOSCRIPT" => {}
            result => return result,
        }
        self.send(&script.load()).await?;
        self.send(&call).await
    }

    async fn send(&mut self, cmd: &redis::Cmd) -> Result<Told, RedisFailure> {
        match self.connection.send_packed_command(cmd).await {
            Ok(Value::ServerError(error)) => Err(RedisFailure::refused(&error)),
            Ok(value) => Ok(Told { value, name: self.run_id.clone() }),
            Err(error) if error.code().is_some() => Err(refused(error.code(), error.detail())),
            Err(error) => Err(RedisFailure::Lost { detail: error.category().to_owned() }),
        }
    }
}
