//! What is read from etcd, and a change that is made whole or not at all. Values; [`super::Client`] sends them.

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Vec<u8>,
    /// The revision at which the key came to be; after a deletion it comes to be anew.
    pub created: i64,
    /// The revision of its last change.
    pub changed: i64,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Put(Entry),
    Gone(String),
}

/// A condition of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Absent(String),
    /// The key was last changed at this revision, and not since.
    Unchanged(String, i64),
    /// The key is the one that came to be at this revision, changed since or not.
    Same(String, i64),
}

/// A part of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// With a lease the key goes when the lease does.
    Put {
        key: String,
        value: Vec<u8>,
        lease: Option<i64>,
    },
    Delete(String),
}

/// A change: all of it where every condition holds, else nothing. No key twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub when: Vec<When>,
    pub then: Vec<Then>,
}

impl Txn {
    pub fn when(mut self, condition: When) -> Txn {
        self.when.push(condition);
        self
    }

    pub fn put(mut self, key: impl Into<String>, value: Vec<u8>) -> Txn {
        self.then.push(Then::Put { key: key.into(), value, lease: None });
        self
    }

    /// The key goes with the lease.
    pub fn put_leased(mut self, key: impl Into<String>, value: Vec<u8>, lease: i64) -> Txn {
        self.then.push(Then::Put { key: key.into(), value, lease: Some(lease) });
        self
    }

    pub fn delete(mut self, key: impl Into<String>) -> Txn {
        self.then.push(Then::Delete(key.into()));
        self
    }
}
