//! The jobs of this machine: one row each; what happened in them is in their journals.

use sqlx::Row as _;

use super::{Catalog, from_text, to_text};
use crate::error::{EngineError, Result};
use crate::jobs::{JobId, JobKind, JobState, JobSummary};

const INSERT: &str = "INSERT INTO jobs (id, kind, cluster, title, state, created_at) VALUES (?, ?, ?, ?, 'running', ?)";
const FINISH: &str =
    "UPDATE jobs SET state = ?, finished_at = ?, error = ?, result = ? WHERE id = ?";
const REOPEN: &str =
    "UPDATE jobs SET state = 'running', finished_at = NULL, error = NULL WHERE id = ?";
const SET_RESULT: &str = "UPDATE jobs SET result = ? WHERE id = ?";
const ALL: &str = "SELECT id, kind, cluster, title, state, created_at, finished_at, error FROM jobs ORDER BY id DESC LIMIT 500";
const ONE: &str =
    "SELECT id, kind, cluster, title, state, created_at, finished_at, error FROM jobs WHERE id = ?";
const RESULT: &str = "SELECT result FROM jobs WHERE id = ?";
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[INSERT, FINISH, REOPEN, SET_RESULT, ALL, ONE, RESULT];

impl Catalog {
    pub(crate) async fn insert_job(&self, job: &JobSummary) -> Result<()> {
        sqlx::query(INSERT)
            .bind(job.id.to_string())
            .bind(job.kind.as_str())
            .bind(job.cluster.as_deref())
            .bind(&job.title)
            .bind(to_text(job.created_at))
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("record the job"))?;
        Ok(())
    }

    pub(crate) async fn finish_job(
        &self,
        job: &JobSummary,
        result: Option<&serde_json::Value>,
    ) -> Result<()> {
        let error = job.error.as_ref().map(|e| serde_json::to_string(e).unwrap_or_default());
        sqlx::query(FINISH)
            .bind(job.state.as_str())
            .bind(job.finished_at.map(to_text))
            .bind(error)
            .bind(result.map(ToString::to_string))
            .bind(job.id.to_string())
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("record the job's end"))?;
        Ok(())
    }

    /// A job that goes on is running again.
    pub(crate) async fn reopen_job(&self, id: JobId) -> Result<()> {
        sqlx::query(REOPEN)
            .bind(id.to_string())
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("record that the job goes on"))?;
        Ok(())
    }

    pub(crate) async fn set_job_result(&self, id: JobId, result: &serde_json::Value) -> Result<()> {
        sqlx::query(SET_RESULT)
            .bind(result.to_string())
            .bind(id.to_string())
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("record the job's result"))?;
        Ok(())
    }

    /// The newest 500 jobs, newest first.
    pub(crate) async fn jobs(&self) -> Result<Vec<JobSummary>> {
        let rows = sqlx::query(ALL)
            .fetch_all(self.pool())
            .await
            .map_err(EngineError::catalog("list jobs"))?;
        rows.iter().map(from_row).collect()
    }

    pub(crate) async fn job(&self, id: JobId) -> Result<JobSummary> {
        let row = sqlx::query(ONE)
            .bind(id.to_string())
            .fetch_optional(self.pool())
            .await
            .map_err(EngineError::catalog("read the job"))?
            .ok_or_else(|| EngineError::NotFound { what: "job", name: id.to_string() })?;
        from_row(&row)
    }

    pub(crate) async fn job_result(&self, id: JobId) -> Result<Option<serde_json::Value>> {
        let row = sqlx::query(RESULT)
            .bind(id.to_string())
            .fetch_optional(self.pool())
            .await
            .map_err(EngineError::catalog("read the job's result"))?;
        let text: Option<String> = row.and_then(|r| r.get(0));
        text.map(|t| {
            serde_json::from_str(&t).map_err(|e| EngineError::Fault(format!("job {id}: {e}")))
        })
        .transpose()
    }
}

fn from_row(row: &sqlx::sqlite::SqliteRow) -> Result<JobSummary> {
    let id: String = row.get(0);
    let finished: Option<String> = row.get(6);
    let error: Option<String> = row.get(7);
    Ok(JobSummary {
        id: id.parse().map_err(|_| EngineError::Fault(format!("job id {id:?}")))?,
        kind: JobKind::parse(row.get(1)),
        cluster: row.get(2),
        title: row.get(3),
        state: JobState::parse(row.get(4)),
        phase: None,
        created_at: from_text(row.get(5))?,
        finished_at: finished.as_deref().map(from_text).transpose()?,
        error: error.and_then(|e| serde_json::from_str(&e).ok()),
        paused: false,
        resumable: false,
    })
}
