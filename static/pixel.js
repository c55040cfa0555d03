// The manual: /docs/install
if (!window.pixel?.visitorId) try {
  const { src, dataset } = document.currentScript;
  const api = dataset.api || new URL("api/event", src);
  const safe = (work) => (...given) => {
    try { return work(...given); } catch {}
  };
  const on = (name, work) => addEventListener(name, safe(work), true);

  const quiet = dataset.cookieless != null || navigator.globalPrivacyControl || navigator.doNotTrack == 1;
  const box = safe(() => !quiet && localStorage)() || { get pxl_vid() {} };
  const excluded = RegExp(`^(${dataset.exclude?.replace(/\W/g, "\\$&").replace(/\\\*/g, ".*").replace(/\\,/g, "|")})$`);
  let seen, scrolled, { referrer } = document;

  const agreed = () => !document.prerendering && (box.pxl_consent ?? dataset.requireConsent == null) == 1;
  const random = () => crypto.getRandomValues(new Uint32Array(4)).join("");
  const known = () => document.cookie.match(/pxl_vid=(\w+)/)?.[1] || box.pxl_vid;
  const visitor = safe(() => {
    if (quiet || !agreed()) return;
    box.pxl_vid = known() || random();
    document.cookie = `pxl_vid=${box.pxl_vid};path=/;max-age=31536000;samesite=lax`;
    return known();
  });

  const queue = (change) => {
    if (!agreed()) return;
    const hits = JSON.parse(box.pxl_queue || "[]").filter(([, at]) => at > Date.now() - 864e5);
    change(hits);
    box.pxl_queue = JSON.stringify(hits.slice(-50));
  };
  const retry = safe(() => queue((hits) => hits[0] && setTimeout(send, 0, ...hits.shift())));
  const send = safe((body, at = Date.now()) => {
    const later = safe(({ status } = {}) => (status < 429 ? retry() : queue((hits) => hits.push([body, at]))));
    if (!navigator.onLine) return later();
    safe(() => fetch(api, { method: "POST", body, keepalive: true, credentials: "omit" }).then(later, later))() || navigator.sendBeacon(api, body) || later();
  });

  const text = (value, most = 1000) => String(value).slice(0, most).replace(/[\p{Cc}\p{Cs}]/gu, "");
  const texts = (given = {}) => Object.fromEntries(Object.entries(given).filter(([, value]) => value != null).map(([name, value]) => [text(name, 100), text(value)]).slice(0, 50));
  const hit = (name, facts, props) => {
    view();
    if (!agreed() || excluded.test(location.pathname)) return;
    send(JSON.stringify({ website_id: dataset.websiteId, name, visitor_id: visitor(), event_id: random(), timestamp: new Date(), url: text(location, 2000), title: text(document.title), referrer, screen: screen.width + "x" + screen.height, first: box.pxl_first, props: texts(props), ...facts }));
  };
  const view = safe(() => {
    if (!agreed() || seen == location.href) return;
    const tags = location.search.match(/(utm_|\w+clk?id=)[^&]+/g);
    if (tags) box.pxl_first ||= text(tags.join("&"));
    if (seen) referrer = text(seen, 2000);
    seen = location.href;
    hit("pageview");
  });

  const calls = {
    track: (goal, props) => hit("custom", { goal: text(goal, 64) }, props),
    payment: ({ props, ...facts }) => hit("payment", texts(facts), props),
    identify: ({ traits, ...who }) => visitor() && hit("identify", { ...texts(who), traits: texts(traits) }),
    consent(given) {
      box.pxl_consent = +given;
      if (given) return view();
      document.cookie = "pxl_vid=;path=/;max-age=0";
      delete box.pxl_vid;
      delete box.pxl_first;
      delete box.pxl_queue;
    },
  };
  const pixel = safe((call, ...given) => (document.prerendering ? on("prerenderingchange", () => pixel(call, ...given)) : calls[call](...given)));
  pixel.visitorId = visitor;
  window.pixel?.q?.forEach?.((call) => pixel(...call));
  window.pixel = pixel;
  view();

  const soon = () => setTimeout(view);
  on("prerenderingchange", view);
  on("popstate", soon);
  on("online", retry);
  for (let pause = 6e4; pause < 864e5; pause *= 2) setTimeout(retry, pause);
  on("pageshow", ({ persisted }) => persisted && view((seen = "")));

  const noted = (goal, props) => dataset.auto?.includes(goal) && calls.track(goal, props);
  on("click", ({ target }) => {
    const goal = target.closest("[data-pixel-goal]");
    if (goal) calls.track(goal.dataset.pixelGoal);
    const { host, pathname } = target.closest("a") || location;
    const url = host + pathname;
    if (/\.(pdf|zip|csv|docx?|xlsx?|pptx?|mp[34])$/.test(url)) noted("downloads", { url });
    if (host && host != location.host) noted("outbound", { url });
  });
  on("submit", ({ target }) => noted("forms", { form: target.attributes.id?.value }));
  on("scroll", () => {
    if (scrolled == seen || scrollY + innerHeight < 0.9 * document.body.scrollHeight) return;
    scrolled = seen;
    noted("scroll");
  });

  for (const name of ["pushState", "replaceState"]) {
    const own = history[name].bind(history);
    history[name] = (...given) => {
      view();
      soon();
      own(...given);
    };
  }
} catch {}
