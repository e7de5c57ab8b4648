// The operator's dashboard: which view stands at which address, and one at a time.
//   #/  all tenants      #/t/TENANT  one tenant      #/t/TENANT/u/USER  one user

import { get } from "./api.js";
import { fill, notice } from "./dom.js";
import { rangeQuery } from "./ranges.js";
import { admitted, start } from "./session.js";
import { TenantPage } from "./tenant.js";
import { TenantsPage } from "./tenants.js";
import { UserPage } from "./user.js";

const main = document.getElementById("main");
let page = null;

export const addressOf = {
  tenants: () => "#/",
  tenant: (tenant) => `#/t/${encodeURIComponent(tenant)}`,
  user: (tenant, user) => `#/t/${encodeURIComponent(tenant)}/u/${encodeURIComponent(user)}`,
};

function pageAt(hash, session) {
  const [, kind, tenant, , user] = hash.split("/");
  if (kind === "t" && user) return new UserPage(decodeURIComponent(tenant), decodeURIComponent(user), addressOf);
  if (kind === "t") return new TenantPage(decodeURIComponent(tenant), addressOf, session.first?.glance && session.first);
  return new TenantsPage(session.first?.data && session.first, addressOf);
}

async function open(session) {
  page?.close();
  page = pageAt(location.hash, session);
  session.first = null;
  fill(main, page.element);
  scrollTo(0, 0);
  await page.open();
}

// The key is tried on the figures that are shown first, so that they come with it.
const firstTenant = () => decodeURIComponent(location.hash.match(/^#\/t\/([^/]+)/)?.[1] ?? "");

start();
const first = await admitted(main, {
  heading: "Regret dashboard",
  hint: [
    "Enter an operator's key, or a tenant's key with the scope “operate”.",
    "It stays in this tab and is forgotten when the tab closes. After make up, the operator's key is in .cage/operator-key.",
  ],
  check: () => (firstTenant() ? get(`/v1/dashboard/tenant${rangeQuery()}`, { tenant: firstTenant() }) : get(`/v1/dashboard/tenants${rangeQuery()}`)),
});
const session = { first };
if (first.data?.length === 1 && !first.operator && !location.hash) location.hash = addressOf.tenant(first.data[0].id);
addEventListener("hashchange", () => open(session));
open(session).catch((error) => fill(main, notice(error)));
