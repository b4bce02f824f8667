"""The services and their rpcs: one line for each.  A test names what is missing."""

from typing import Generic

from nofx_grpc.client.rpcs import Caller, ClientStream, Mode, Paged, ServerStream, Service, Unary
from nofx_grpc.v1 import admin_pb2 as admin
from nofx_grpc.v1 import audit_pb2 as audit
from nofx_grpc.v1 import beta_codes_pb2 as beta_codes
from nofx_grpc.v1 import decision_logs_pb2 as decision_logs
from nofx_grpc.v1 import exchanges_pb2 as exchanges
from nofx_grpc.v1 import keys_pb2 as keys
from nofx_grpc.v1 import models_pb2 as models
from nofx_grpc.v1 import performance_pb2 as performance
from nofx_grpc.v1 import signal_sources_pb2 as signal_sources
from nofx_grpc.v1 import system_config_pb2 as system_config
from nofx_grpc.v1 import traders_pb2 as traders
from nofx_grpc.v1 import users_pb2 as users
from nofx_grpc.v1 import watch_pb2 as watch


class Users(Service[Mode]):
    """Users, registration and logins."""

    DESCRIPTOR = users.DESCRIPTOR.services_by_name["Users"]

    create_user = Unary(users.CreateUserRequest, users.User)
    get_user = Unary(users.GetUserRequest, users.User)
    list_users = Paged(users.ListUsersRequest, users.ListUsersResponse, lambda page: page.users)
    update_user = Unary(users.UpdateUserRequest, users.User)
    delete_user = Unary(users.DeleteUserRequest, users.DeleteUserResponse)
    register_user = Unary(users.RegisterUserRequest, users.RegisterUserResponse)
    complete_registration = Unary(users.CompleteRegistrationRequest, users.CompleteRegistrationResponse)
    authenticate = Unary(users.AuthenticateRequest, users.AuthenticateResponse)
    verify_otp = Unary(users.VerifyOtpRequest, users.VerifyOtpResponse)
    change_password = Unary(users.ChangePasswordRequest, users.ChangePasswordResponse)
    set_password = Unary(users.SetPasswordRequest, users.SetPasswordResponse)
    reset_otp = Unary(users.ResetOtpRequest, users.ResetOtpResponse)


class Models(Service[Mode]):
    """AI models and their API keys."""

    DESCRIPTOR = models.DESCRIPTOR.services_by_name["Models"]

    create_model = Unary(models.CreateModelRequest, models.Model)
    get_model = Unary(models.GetModelRequest, models.Model)
    list_models = Paged(models.ListModelsRequest, models.ListModelsResponse, lambda page: page.models)
    update_model = Unary(models.UpdateModelRequest, models.Model)
    delete_model = Unary(models.DeleteModelRequest, models.DeleteModelResponse)
    list_supported_models = Paged(
        models.ListSupportedModelsRequest, models.ListSupportedModelsResponse, lambda page: page.models
    )
    access_model_credentials = Unary(models.AccessModelCredentialsRequest, models.AccessModelCredentialsResponse)


class Exchanges(Service[Mode]):
    """Exchanges and their credentials."""

    DESCRIPTOR = exchanges.DESCRIPTOR.services_by_name["Exchanges"]

    create_exchange = Unary(exchanges.CreateExchangeRequest, exchanges.Exchange)
    get_exchange = Unary(exchanges.GetExchangeRequest, exchanges.Exchange)
    list_exchanges = Paged(exchanges.ListExchangesRequest, exchanges.ListExchangesResponse, lambda page: page.exchanges)
    update_exchange = Unary(exchanges.UpdateExchangeRequest, exchanges.Exchange)
    delete_exchange = Unary(exchanges.DeleteExchangeRequest, exchanges.DeleteExchangeResponse)
    list_supported_exchanges = Paged(
        exchanges.ListSupportedExchangesRequest, exchanges.ListSupportedExchangesResponse, lambda page: page.exchanges
    )
    access_exchange_credentials = Unary(
        exchanges.AccessExchangeCredentialsRequest, exchanges.AccessExchangeCredentialsResponse
    )


class SignalSources(Service[Mode]):
    """Where signals come from, one for each user."""

    DESCRIPTOR = signal_sources.DESCRIPTOR.services_by_name["SignalSources"]

    get_signal_source = Unary(signal_sources.GetSignalSourceRequest, signal_sources.SignalSource)
    set_signal_source = Unary(signal_sources.SetSignalSourceRequest, signal_sources.SignalSource)
    delete_signal_source = Unary(signal_sources.DeleteSignalSourceRequest, signal_sources.DeleteSignalSourceResponse)


class Traders(Service[Mode]):
    """Traders, and everything that an engine needs to run one."""

    DESCRIPTOR = traders.DESCRIPTOR.services_by_name["Traders"]

    create_trader = Unary(traders.CreateTraderRequest, traders.Trader)
    get_trader = Unary(traders.GetTraderRequest, traders.Trader)
    list_traders = Paged(traders.ListTradersRequest, traders.ListTradersResponse, lambda page: page.traders)
    update_trader = Unary(traders.UpdateTraderRequest, traders.Trader)
    delete_trader = Unary(traders.DeleteTraderRequest, traders.DeleteTraderResponse)
    start_trader = Unary(traders.StartTraderRequest, traders.Trader)
    stop_trader = Unary(traders.StopTraderRequest, traders.Trader)
    list_trading_symbols = Paged(
        traders.ListTradingSymbolsRequest, traders.ListTradingSymbolsResponse, lambda page: page.symbols
    )
    get_trader_config = Unary(traders.GetTraderConfigRequest, traders.TraderConfig)
    stream_trader_configs = ServerStream(traders.StreamTraderConfigsRequest, traders.StreamTraderConfigsResponse)
    watch_trader_configs = ServerStream(traders.WatchTraderConfigsRequest, traders.WatchTraderConfigsResponse)


class SystemConfig(Service[Mode]):
    """The configuration of the whole system."""

    DESCRIPTOR = system_config.DESCRIPTOR.services_by_name["SystemConfig"]

    get_system_config = Unary(system_config.GetSystemConfigRequest, system_config.ConfigEntry)
    list_system_config = Paged(
        system_config.ListSystemConfigRequest, system_config.ListSystemConfigResponse, lambda page: page.entries
    )
    set_system_config = Unary(system_config.SetSystemConfigRequest, system_config.SetSystemConfigResponse)
    get_public_config = Unary(system_config.GetPublicConfigRequest, system_config.PublicConfig)
    import_config_file = Unary(system_config.ImportConfigFileRequest, system_config.ImportConfigFileResponse)
    access_system_secret = Unary(system_config.AccessSystemSecretRequest, system_config.AccessSystemSecretResponse)


class BetaCodes(Service[Mode]):
    """Beta codes, each good for one registration."""

    DESCRIPTOR = beta_codes.DESCRIPTOR.services_by_name["BetaCodes"]

    import_beta_codes = ClientStream(beta_codes.ImportBetaCodesRequest, beta_codes.ImportBetaCodesResponse)
    generate_beta_codes = Unary(beta_codes.GenerateBetaCodesRequest, beta_codes.GenerateBetaCodesResponse)
    validate_beta_code = Unary(beta_codes.ValidateBetaCodeRequest, beta_codes.ValidateBetaCodeResponse)
    redeem_beta_code = Unary(beta_codes.RedeemBetaCodeRequest, beta_codes.BetaCode)
    list_beta_codes = Paged(
        beta_codes.ListBetaCodesRequest, beta_codes.ListBetaCodesResponse, lambda page: page.beta_codes
    )
    delete_beta_code = Unary(beta_codes.DeleteBetaCodeRequest, beta_codes.DeleteBetaCodeResponse)
    get_beta_code_stats = Unary(beta_codes.GetBetaCodeStatsRequest, beta_codes.BetaCodeStats)


class DecisionLogs(Service[Mode]):
    """The records of what agents saw, thought and did."""

    DESCRIPTOR = decision_logs.DESCRIPTOR.services_by_name["DecisionLogs"]

    append_decision = Unary(decision_logs.AppendDecisionRequest, decision_logs.Decision)
    get_decision = Unary(decision_logs.GetDecisionRequest, decision_logs.Decision)
    list_decisions = Paged(
        decision_logs.ListDecisionsRequest, decision_logs.ListDecisionsResponse, lambda page: page.decisions
    )
    tail_decisions = ServerStream(decision_logs.TailDecisionsRequest, decision_logs.TailDecisionsResponse)
    get_decision_statistics = Unary(performance.GetDecisionStatisticsRequest, performance.DecisionStatistics)
    analyze_performance = Unary(performance.AnalyzePerformanceRequest, performance.Performance)
    prune_decisions = Unary(decision_logs.PruneDecisionsRequest, decision_logs.PruneDecisionsResponse)


class Watch(Service[Mode]):
    """Changes, as they are made."""

    DESCRIPTOR = watch.DESCRIPTOR.services_by_name["Watch"]

    watch = ServerStream(watch.WatchRequest, watch.WatchResponse)


class Admin(Service[Mode]):
    """The service itself: tokens, the keys that seal what is stored, and the audit log."""

    DESCRIPTOR = admin.DESCRIPTOR.services_by_name["Admin"]

    create_token = Unary(admin.CreateTokenRequest, admin.Token)
    list_tokens = Paged(admin.ListTokensRequest, admin.ListTokensResponse, lambda page: page.tokens)
    revoke_token = Unary(admin.RevokeTokenRequest, admin.RevokeTokenResponse)
    list_keys = Paged(keys.ListKeysRequest, keys.ListKeysResponse, lambda page: page.keys)
    rotate_key = Unary(keys.RotateKeyRequest, keys.RotateKeyResponse)
    reencrypt = ServerStream(keys.ReencryptRequest, keys.ReencryptResponse)
    retire_key = Unary(keys.RetireKeyRequest, keys.RetireKeyResponse)
    list_audit_events = Paged(audit.ListAuditEventsRequest, audit.ListAuditEventsResponse, lambda page: page.events)
    verify_audit = Unary(audit.VerifyAuditRequest, audit.VerifyAuditResponse)
    export_audit_head = Unary(audit.ExportAuditHeadRequest, audit.ExportAuditHeadResponse)
    prune_audit = Unary(audit.PruneAuditRequest, audit.PruneAuditResponse)


class Services(Generic[Mode]):
    """All services: what both clients are made of."""

    def __init__(self, caller: Caller) -> None:
        self.users: Users[Mode] = Users(caller)
        self.models: Models[Mode] = Models(caller)
        self.exchanges: Exchanges[Mode] = Exchanges(caller)
        self.signal_sources: SignalSources[Mode] = SignalSources(caller)
        self.traders: Traders[Mode] = Traders(caller)
        self.system_config: SystemConfig[Mode] = SystemConfig(caller)
        self.beta_codes: BetaCodes[Mode] = BetaCodes(caller)
        self.decision_logs: DecisionLogs[Mode] = DecisionLogs(caller)
        self.watch: Watch[Mode] = Watch(caller)
        self.admin: Admin[Mode] = Admin(caller)
