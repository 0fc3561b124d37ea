import { element, setText } from "../parts/dom.js";
import { percent } from "../parts/format.js";
import { roleName } from "../parts/labels.js";

/** Shares of talk of the last minute: a bar with a part per side, and the numbers of two sides. */
export class Talk {
  #shown = null;

  constructor() {
    this.text = element("span", { className: "visually-hidden" });
    this.first = element("span", { className: "side number", ariaHidden: "true" });
    this.bar = element("span", { className: "talk-bar", ariaHidden: "true", hidden: true });
    this.last = element("span", { className: "side number", ariaHidden: "true" });
    this.node = element("span", { className: "talk" }, this.text, this.first, this.bar, this.last);
  }

  show(conversation) {
    if (conversation === this.#shown) return;
    this.#shown = conversation;
    const sides = talkSides(conversation);
    setText(this.text, talkText(conversation));
    const two = sides.length === 2;
    setText(this.first, two ? `${initial(sides[0])} ${percent(sides[0].talk_share)}` : "");
    setText(this.last, two ? `${percent(sides[1].talk_share)} ${initial(sides[1])}` : "");
    this.bar.hidden = !sides.length;
    while (this.bar.children.length > sides.length) this.bar.lastElementChild.remove();
    while (this.bar.children.length < sides.length) this.bar.append(element("span"));
    sides.forEach(({ talk_share: share }, number) => {
      this.bar.children[number].style.setProperty("flex-grow", share);
    });
  }
}

/** Return the shares of talk of the last minute as text, such as "customer 40 % · agent 60 %". */
export function talkText(conversation) {
  return talkSides(conversation)
    .map(({ role, talk_share: share }) => `${roleName(role)} ${percent(share)}`)
    .join(" · ");
}

/** Return the sides of a conversation that have a share of talk in the last minute. */
function talkSides(conversation) {
  return (conversation?.minute.sides ?? []).filter((side) => side.talk_share !== null);
}

const initial = ({ role }) => [...roleName(role)][0]?.toUpperCase() ?? "";
