"""Configuration: `defaults.toml` documents and sets every default, `SELLFLOW_…` variables override it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from sellflow.errors import ConfigurationError

Port = int
ENV_PREFIX = "SELLFLOW_"


@cache
def packaged_defaults() -> dict[str, Any]:
    """Return the settings of `defaults.toml` by name."""
    return tomllib.loads(files("sellflow").joinpath("defaults.toml").read_text(encoding="utf-8"))


class Settings(BaseSettings):
    """All settings, validated. Their meaning and defaults stand in `defaults.toml`; none is set here."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "production", "test"]
    web_host: str
    web_port: Port = Field(ge=0, le=65535)
    simulator_host: str
    simulator_port: Port = Field(ge=0, le=65535)
    operations_host: str
    operations_port: Port = Field(ge=0, le=65535)
    data_dir: Path
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["console", "json"]

    database_session_url: str
    database_pooled_url: str
    database_owner: str
    database_owner_password: SecretStr
    database_web_password: SecretStr
    database_worker_password: SecretStr
    database_ingest_password: SecretStr
    database_admin_password: SecretStr
    web_pool_size: int = Field(ge=1, le=100)
    ingest_pool_size: int = Field(ge=1, le=16)
    admin_pool_size: int = Field(ge=1, le=100)
    statement_timeout: float = Field(gt=0)
    migration_lock_timeout: float = Field(gt=0)
    migration_statement_timeout: float = Field(gt=0)

    master_key_provider: Literal["local", "aws-kms"]
    master_key_file: str
    master_key_kms_id: str

    shopify_api_version: str = Field(pattern=r"^20\d\d-(01|04|07|10)$")
    shopify_schema_dir: Path
    shopify_timeout: float = Field(gt=0, le=120)
    shopify_foreground_patience: float = Field(ge=0)
    shopify_background_patience: float = Field(ge=0)
    shopify_foreground_reserve: float = Field(ge=0, le=0.5)
    admin_call_retention_days: int = Field(ge=2)
    shopify_scopes: str = Field(pattern=r"^[a-z_]+(,[a-z_]+)*$")
    public_url: str = Field(pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*[^\s/?#])?)?$")

    webhook_max_body_bytes: int = Field(ge=1)
    webhook_waiting_deliveries: int = Field(ge=1)
    webhook_waiting_bytes: int = Field(ge=1)
    webhook_commit_size: int = Field(ge=1, le=1000)
    webhook_deadline: float = Field(gt=0, lt=5)

    services: str
    worker_queues: str
    worker_batch_size: int = Field(ge=1, le=5000)
    worker_consumers: int = Field(ge=1)
    worker_visibility_timeout: int = Field(ge=1)
    worker_calls: int = Field(ge=1)
    worker_poll_interval: float = Field(gt=0)
    worker_grace: float = Field(ge=0)
    worker_stuck_after: float = Field(ge=1)
    retry_attempts: int = Field(ge=1)
    retry_base: float = Field(gt=0)
    retry_cap: float = Field(gt=0)
    event_partitions_ahead: int = Field(ge=1, le=60)

    scheduler_lease: float = Field(ge=0.5, le=300)
    event_retention_days: int = Field(ge=1)
    receipt_retention_days: int = Field(ge=2)
    transaction_idle_limit: float = Field(ge=0)
    transaction_active_limit: float = Field(ge=0)

    reconciliation_interval: float = Field(ge=1)
    reconciliation_settle: float = Field(ge=0)
    reconciliation_budget: float = Field(gt=0, le=600)

    outgoing_timeout: float = Field(gt=0, le=15)
    outgoing_private_networks: str

    compliance_settle: float = Field(ge=0)
    compliance_export_days: int = Field(ge=1)

    plan_grace_days: float = Field(ge=0, le=90)

    request_max_body_bytes: int = Field(ge=1024)
    mobile_requests_per_second: float = Field(ge=0)
    merchant_requests_per_second: float = Field(ge=0)
    service_requests_per_second: float = Field(ge=0)
    customer_token_ttl: int = Field(ge=60)
    refresh_token_ttl: int = Field(ge=3600)
    refresh_token_leeway: int = Field(ge=0, le=300)
    customer_account_timeout: float = Field(gt=0, le=15)
    app_bridge_url: str
    demo_app_secret: SecretStr

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read explicit values first, then the environment, then the packaged defaults."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, packaged_defaults())

    @field_validator("database_session_url", "database_pooled_url")
    @classmethod
    def _address_without_credentials(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("must look like postgresql://HOST:PORT/DATABASE")
        if parts.username or parts.password or parse_qs(parts.query).keys() & {"user", "password"}:
            raise ValueError("must not hold a user or password: set SELLFLOW_DATABASE_…_PASSWORD instead")
        return value

    @field_validator("services")
    @classmethod
    def _module_names(cls, value: str) -> str:
        for name in value.split(",") if value.strip() else ():
            if not all(word.isidentifier() for word in name.strip().split(".")):
                raise ValueError(f"{name.strip()!r} is no name of a Python module; separate several by commas")
        return value

    @field_validator("outgoing_private_networks")
    @classmethod
    def _list_of_networks(cls, value: str) -> str:
        for each in value.split(","):
            if each.strip():
                ip_network(each.strip())
        return value

    @model_validator(mode="after")
    def _safe_in_production(self) -> Settings:
        if self.environment != "production":
            return self
        unsafe = []
        if self.demo_app_secret.get_secret_value() == packaged_defaults()["demo_app_secret"]:
            unsafe.append(
                "SELLFLOW_DEMO_APP_SECRET is the published demo secret: set it to the empty string (no demo app) "
                "or to a secret of your own"
            )
        if self.database_session_url:
            unsafe += [
                f"SELLFLOW_{name.upper()} is empty: set a password for that login"
                for name in (
                    "database_web_password",
                    "database_worker_password",
                    "database_ingest_password",
                    "database_admin_password",
                )
                if not getattr(self, name).get_secret_value()
            ]
        if unsafe:
            raise ValueError("unsafe for SELLFLOW_ENVIRONMENT=production: " + "; ".join(unsafe))
        return self

    @model_validator(mode="after")
    def _has_its_kms_key(self) -> Settings:
        if self.master_key_provider == "aws-kms" and not self.master_key_kms_id:
            raise ValueError(
                "SELLFLOW_MASTER_KEY_KMS_ID is empty: name the KMS key that SELLFLOW_MASTER_KEY_PROVIDER uses"
            )
        return self

    @property
    def local_master_keys(self) -> Path:
        """The file of local master keys."""
        return Path(self.master_key_file) if self.master_key_file else self.data_dir / "master.key"

    @property
    def embedded(self) -> bool:
        """Whether Sellflow runs its own Postgres."""
        return not self.database_session_url

    @property
    def web_url(self) -> str:
        """Where the web role is reached from this machine."""
        return f"http://{self.web_host}:{self.web_port}"

    @property
    def simulator_url(self) -> str:
        """Where the simulator is reached from this machine."""
        return f"http://{self.simulator_host}:{self.simulator_port}"


def load_settings(**overrides: object) -> Settings:
    """Return the settings from the environment over the defaults; `overrides` win over both.

    Raises
    ------
    ConfigurationError
        If a value is malformed or unsafe, naming every such setting and what to do.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError("\n".join(_complaint(detail) for detail in error.errors())) from error


def _complaint(detail: Any) -> str:  # noqa: ANN401 - pydantic's own untyped dictionary
    """Say one validation error in terms of the variable to change, never repeating a secret's value."""
    name = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    return f"{ENV_PREFIX}{name.upper()}: {message}" if name else message
