//! kask_server
