"""Drives the simulated cloud with the vendor's own SDK: its signing, its generic client, its exceptions.

Reads one JSON object from standard input that says whom to be and what to ask, and prints one that says what came back.
"""

import json
import sys
import tempfile
import types

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.client import Client, ClientBuilder
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.sdk_response import SdkResponse

APPS = "/v1/{project_id}/app-auth/apps"
APP = APPS + "/{app_id}"
CODES = APP + "/app-code"
CODE = CODES + "/{app_code}"


class Answer(SdkResponse):
    """All fields that any of the calls answers with."""

    sensitive_list = []
    openapi_types = {"app": "object", "apps": "list[object]", "count": "int", "total_count": "int", "exists": "bool"}
    attribute_map = {name: name for name in openapi_types}

    def __init__(self, app=None, apps=None, count=None, total_count=None, exists=None):
        super().__init__()
        self.app = app
        self.apps = apps
        self.count = count
        self.total_count = total_count
        self.exists = exists


def client(builder):
    built = builder.build()
    built.model_package = types.SimpleNamespace(Answer=Answer)
    return built


def call(sdk, method, path, path_params, query=None, body=None):
    try:
        answer = sdk.do_http_request(
            method,
            path,
            path_params=path_params,
            query_params=query or [],
            header_params={},
            body=body,
            response_type="Answer",
        )
    except ServiceResponseException as refused:
        return {
            "status": refused.status_code,
            "errorCode": refused.error_code,
            "errorMsg": refused.error_msg,
            "requestId": refused.request_id,
        }
    fields = {name: getattr(answer, name) for name in Answer.openapi_types}
    return {"status": answer.status_code, **{name: value for name, value in fields.items() if value is not None}}


def owner(given, **changes):
    who = {**given, **changes}
    return BasicCredentials(who["ak"], who["sk"], given["project"])


def main():
    given = json.load(sys.stdin)
    url, app, body = given["url"], {"app_id": given["app"]}, {"app_name": given["name"], "app_remark": "", "workspace_id": "0"}
    sdk = client(ClientBuilder(Client).with_credentials(owner(given)).with_endpoint(url))
    done = {}

    done["show"] = call(sdk, "GET", APP, dict(app), [("iphertext_enabled", True), ("workspace_id", "0")])
    done["reset"] = call(sdk, "PUT", CODE, {**app, "app_code": given["code"]}, body=body)
    done["resetAgain"] = call(sdk, "PUT", CODE, {**app, "app_code": given["code"]}, body=body)
    done["resetSpecial"] = call(sdk, "PUT", CODE, {**app, "app_code": given["special"]}, body=body)
    done["add"] = call(sdk, "POST", CODES, dict(app), body=body)
    added = [code for code in done["add"]["app"]["app_codes"] if code not in done["resetSpecial"]["app"]["app_codes"]]
    done["delete"] = call(sdk, "DELETE", CODE, {**app, "app_code": added[0]}, [("workspace_id", "0")])
    done["list"] = call(sdk, "GET", APPS, {}, [("app_name", "app_"), ("limit", "10"), ("app_ids", [given["app"]])])
    done["exists"] = call(sdk, "GET", APPS + "/{app_name}/exists", {"app_name": given["name"]})

    wrong = client(ClientBuilder(Client).with_credentials(owner(given, sk="wrong")).with_endpoint(url))
    done["wrongSecret"] = call(wrong, "GET", APP, dict(app))

    temporary = given["temporary"]
    credentials = owner(given, **temporary).with_security_token(temporary["securityToken"])
    done["temporaryKey"] = call(client(ClientBuilder(Client).with_credentials(credentials).with_endpoint(url)), "GET", APP, dict(app))
    credentials = owner(given, **temporary).with_security_token("another")
    done["wrongToken"] = call(client(ClientBuilder(Client).with_credentials(credentials).with_endpoint(url)), "GET", APP, dict(app))

    # Without a project the SDK asks IAM for the one of the region.
    credentials = BasicCredentials(given["ak"], given["sk"]).with_iam_endpoint(url)
    regional = ClientBuilder(Client).with_credentials(credentials).with_region(Region("cn-north-4", url))
    done["projectLookUp"] = call(client(regional), "GET", APP, dict(app))

    # An identity provider's token becomes an IAM token, and that a temporary key.
    with tempfile.NamedTemporaryFile("w", suffix=".token") as id_token:
        id_token.write(given["idToken"])
        id_token.flush()
        credentials = BasicCredentials().with_iam_endpoint(url)
        credentials = credentials.with_idp_id("cluster").with_id_token_file(id_token.name).with_project_id(given["project"])
        federated = client(ClientBuilder(Client).with_credentials(credentials).with_endpoint(url))
        done["federated"] = call(federated, "GET", APP, dict(app))

    json.dump(done, sys.stdout)


main()
