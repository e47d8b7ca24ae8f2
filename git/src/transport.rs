//! The smart subtransport that libgit2 speaks through: HTTP or ssh, whichever the current exchange names.

use std::io::{Read, Write};
use std::sync::Arc;

use git2::Remote;
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};

use crate::exchange::Exchange;
use crate::http::Http;
use crate::ssh::Ssh;
use crate::url::Scheme;

/// Creates the transport for the exchange that this thread opens.
pub(crate) fn create(remote: &Remote<'_>) -> Result<Transport, git2::Error> {
    let exchange = Exchange::current().ok_or_else(|| git2::Error::from_str("no exchange is being opened"))?;
    match exchange.url.scheme {
        Scheme::Http | Scheme::Https => Transport::smart(remote, true, Subtransport(Http::new(exchange))),
        Scheme::Ssh => Transport::smart(remote, false, Subtransport(Ssh::new(exchange))),
        Scheme::File => Err(git2::Error::from_str("a local repository is opened, not fetched")),
    }
}

/// One way to reach a server.
pub(crate) trait Way: Send + Sync + 'static {
    type Stream: Read + Write + Send + 'static;

    /// The advertisement of refs.
    fn list(self: &Arc<Self>) -> std::io::Result<Self::Stream>;
    /// The negotiation and the pack. Asked of stateless ways alone; the others go on with the stream of [`Way::list`].
    fn pack(self: &Arc<Self>) -> std::io::Result<Self::Stream>;
}

struct Subtransport<W>(Arc<W>);

impl<W: Way> SmartSubtransport for Subtransport<W> {
    fn action(&self, _address: &str, action: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let stream = match action {
            Service::UploadPackLs => self.0.list(),
            Service::UploadPack => self.0.pack(),
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("nothing is ever pushed"));
            }
        };
        stream
            .map(|stream| Box::new(stream) as Box<dyn SmartSubtransportStream>)
            .map_err(|error| git2::Error::new(git2::ErrorCode::GenericError, git2::ErrorClass::Net, error.to_string()))
    }

    fn close(&self) -> Result<(), git2::Error> {
        // A stream ends its own connection when libgit2 frees it.
        Ok(())
    }
}
