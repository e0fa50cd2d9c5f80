//! What is reached over HTTP.
//!
//! [`site`] answers the site servers on the devices, from the [`site_table`] that the controller fills; what both
//! ends say to each other stands in [`site_protocol`]. [`exchange`] lets the provider's actor be asked.

pub mod exchange;
pub mod site;
pub mod site_protocol;
pub mod site_table;

pub use site::{Clock, PATIENCE, Revocations, SiteService, blob_patience, router};
pub use site_protocol::{SiteName, SiteNameError};
pub use site_table::{Backing, READS_A_SITE, SiteReport, SiteTable, SiteTarget};
