//! Restore: plan, fetch, replay to the target, pause, prove, hand over.

mod begun;
mod configuration;
mod delta;
mod destination;
mod discard;
mod feed;
mod fetch;
mod gate;
mod host;
mod in_place;
mod inspect;
mod place;
mod plan;
mod private_copy;
mod prove;
mod record;
mod replay;
mod request;
mod resolve;
mod result;
mod resume;
mod run;
mod tablespace;
mod unfinished;

pub use configuration::SourceConfiguration;
pub use in_place::{Placement, Purged, SetAside, Swapped};
pub use inspect::{InspectRequest, Inspection};
pub use plan::{Estimate, Loss, PlanStep, ReachedPoint, RestorePlan};
pub(crate) use plan::{Prepared, Purpose};
pub use request::{AtTarget, RestoreRequest, RunOptions, TimelineChoice};
pub use resolve::{Stop, StopRule};
pub use result::RestoreResult;
pub use resume::Resumed;
pub(crate) use unfinished::can_resume;
