//! `holdfast repo`: its commands, its keys and its writers.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Repo {
    /// Create a repository in a folder or an object store.
    #[command(
        after_help = "Example:\n  HOLDFAST_PASSPHRASE=… holdfast repo create s3://backups/orders --recovery-key-out key.txt"
    )]
    Create {
        /// A folder, file:///…, s3://…, gs://… or az://….
        url: String,
        /// Write a printable recovery key to this new file.
        #[arg(long, value_name = "FILE")]
        recovery_key_out: Option<PathBuf>,
        /// Also keep a key in the OS keychain. Default when no passphrase is given.
        #[arg(long)]
        keychain: bool,
    },
    /// Make this machine know an existing repository: the catalog is rebuilt from it.
    #[command(
        after_help = "Example:\n  holdfast repo attach s3://backups/orders --recovery-key-file key.txt"
    )]
    Attach {
        /// Where it is.
        url: String,
        /// Keep a key in the OS keychain for the next time.
        #[arg(long)]
        keychain: bool,
    },
    /// Make this machine forget a repository: what is stored stays, and can be attached again.
    #[command(
        after_help = "Examples:\n  holdfast repo detach s3://backups/orders\n  holdfast repo detach /srv/old-backups\n\nRefused while this machine knows clusters in it. A key in the OS keychain stays."
    )]
    Detach {
        /// Which; not needed when there is only one.
        url: Option<String>,
    },
    /// Slots, store and sizes of a repository.
    #[command(after_help = "Example:\n  holdfast repo status --json")]
    Status {
        /// Which; not needed when there is only one.
        url: Option<String>,
    },
    /// Authenticate every object of a repository.
    #[command(after_help = "Example:\n  holdfast repo check")]
    Check {
        /// Which; not needed when there is only one.
        url: Option<String>,
    },
    /// Repositories this machine knows.
    List,
    /// Ways into a repository: list, add, remove and rotate them.
    #[command(subcommand)]
    Keys(Keys),
    /// Who may write to a repository; admits agents that add and read nothing.
    #[command(subcommand)]
    Writers(Writers),
    /// Carry everything into a new repository with another key: after somebody has had this one's.
    #[command(
        after_help = "Example:\n  HOLDFAST_NEW_PASSPHRASE=… holdfast repo rekey --to s3://backups-2/orders --new-passphrase --recovery-key-out new-key.txt\n\nReplacing key slots (`repo keys rotate`) takes seconds and keeps the repository's key: whoever has a copy of that\nreads on. This reads everything with the old key and stores it with a new one. What the two have in common is read\nonce; cut off anywhere, the same command goes on. This machine's clusters then go on in the new repository; the old\none is left as it is."
    )]
    Rekey {
        /// Where the new repository is made: a folder, s3://, gs:// or az://. Of a run that was cut off, where it was
        /// made.
        #[arg(long, value_name = "URL")]
        to: String,
        /// Which repository.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
        #[command(flatten)]
        key: NewKeys,
        /// Keep a key of the new repository in the OS keychain.
        #[arg(long)]
        keychain: bool,
        /// This machine's clusters go on in the new repository although something is damaged and stays behind.
        #[arg(long)]
        force: bool,
    },
    /// A page to print that, with the repository, is enough to restore on a machine that knows nothing.
    #[command(
        after_help = "Examples:\n  holdfast repo recovery-kit --out recovery-kit.html\n  holdfast repo recovery-kit --out recovery-kit.txt\n\nEach kit has a recovery key of its own, in a key slot that names it: a kit that was lost is ended with\n`holdfast repo keys remove`, and leaves the others valid."
    )]
    RecoveryKit {
        /// The new file: plain text when its name ends in .txt, else HTML.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Which repository; not needed when there is only one.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Lists the key slots, and which of them has opened the repository.
    #[command(after_help = "Example:\n  holdfast repo keys list")]
    List {
        /// Which repository.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
    },
    /// Adds a slot: a passphrase, a recovery key, this device's keychain, a colleague's public key.
    #[command(
        after_help = "Examples:\n  HOLDFAST_NEW_PASSPHRASE=… holdfast repo keys add --new-passphrase --label 'on call'\n  holdfast repo keys add --recovery-key-out second-key.txt\n  holdfast repo keys add --public-key anna.pub --label anna"
    )]
    Add {
        /// Which repository.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
        #[command(flatten)]
        key: NewKeys,
        /// Keep a key in the OS keychain.
        #[arg(long)]
        keychain: bool,
        /// What the slot is called in lists; by its kind when nothing is said.
        #[arg(long)]
        label: Option<String>,
    },
    /// Removes a slot; never the last, nor the last passphrase or recovery key.
    #[command(
        after_help = "Example:\n  holdfast repo keys remove 6f0c2c1e-8d0e-4f43-9f5e-7a4a55a0c0de\n\nWhat opened the slot opens the repository no more. The repository's own key is unchanged: whoever opened\nit before may have kept a copy of that key, and can read what they can still reach."
    )]
    Remove {
        /// The slot's id.
        id: String,
        /// Which repository.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
        /// Although no passphrase or recovery key would be left.
        #[arg(long)]
        force: bool,
    },
    /// Replaces the secret of a slot: the new one has been shown to open before the old one is removed.
    #[command(
        after_help = "Examples:\n  HOLDFAST_NEW_PASSPHRASE=… holdfast repo keys rotate 6f0c2c1e-8d0e-4f43-9f5e-7a4a55a0c0de --new-passphrase\n  holdfast repo keys rotate 6f0c2c1e-8d0e-4f43-9f5e-7a4a55a0c0de --recovery-key-out new-key.txt\n\nA slot of this device's keychain needs no option. What removing the old secret means: see `keys remove --help`."
    )]
    Rotate {
        /// The slot's id.
        id: String,
        /// Which repository.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
        #[command(flatten)]
        key: NewKeys,
    },
    /// Makes your own key pair; hand out the public key to be given a way in.
    #[command(
        after_help = "Example:\n  holdfast repo keys generate --public-key-out anna.pub\n\nThe private key stays in the OS keychain of this machine, or in the file of --private-key-out.\nA slot for the public key is added with `holdfast repo keys add --public-key anna.pub`."
    )]
    Generate {
        /// Write the public key to this new file.
        #[arg(long, value_name = "FILE")]
        public_key_out: PathBuf,
        /// Write the private key to this new file instead of the OS keychain.
        #[arg(long, value_name = "FILE")]
        private_key_out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Writers {
    /// Lists operators' devices and agents.
    #[command(after_help = "Example:\n  holdfast repo writers list")]
    List {
        /// Which repository.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
    },
    /// Makes the key of an agent: what a server needs to add its backups and WAL, and no more.
    #[command(
        after_help = "Example:\n  holdfast repo writers admit --name orders-eu --cluster orders-eu --key-out orders-eu.key\n\nOn the server, which needs no other secret:\n  export HOLDFAST_WRITER_KEY_FILE=/etc/holdfast/orders-eu.key\n  holdfast repo attach s3://backups/orders\n  holdfast backup orders-eu\n\nThe key opens nothing that is stored: restores, verifications and removals are for operators. Of a key that was\nstolen, end the credentials with which its server reaches the store, and admit another agent."
    )]
    Admit {
        /// What the agent is called in lists: which server it is beside.
        #[arg(long)]
        name: String,
        /// It adds to this cluster only; may be said more than once. Without it, to any, and new ones.
        #[arg(long, value_name = "NAME")]
        cluster: Vec<String>,
        /// Write the key to this new file.
        #[arg(long, value_name = "FILE")]
        key_out: PathBuf,
        /// Which repository.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
    },
}

/// The secret of a slot. None of them stands on the command line.
#[derive(Debug, Args)]
pub(crate) struct NewKeys {
    /// A passphrase: HOLDFAST_NEW_PASSPHRASE, or asked for on the terminal.
    #[arg(long, conflicts_with = "new_passphrase_file")]
    pub(crate) new_passphrase: bool,
    /// Read the new passphrase from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Write a new recovery key to this new file.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_key_out: Option<PathBuf>,
    /// The file with a colleague's public key.
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: Option<PathBuf>,
}
