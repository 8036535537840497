"use strict";

// Adds and removes the rows of a list of rules: apps/gates/forms.py.
document.addEventListener("click", (event) => {
    const remove = event.target.closest("[data-rules-remove]");
    if (remove) {
        remove.closest("[data-rules-row]").remove();
        return;
    }
    const add = event.target.closest("[data-rules-add]");
    if (!add) {
        return;
    }
    const list = add.closest("[data-rules]");
    const rule = list.querySelector("[data-rules-choice]").value;
    const blank = [...list.querySelectorAll("template")].find((each) => each.dataset.rule === rule);
    const place = document.createElement("div");
    place.innerHTML = blank.innerHTML.replaceAll("__number__", list.dataset.next);
    // Never used again, also after a row was removed.
    list.dataset.next = Number(list.dataset.next) + 1;
    const row = place.firstElementChild;
    list.querySelector("[data-rules-rows]").append(row);
    (row.querySelector("input:not([type=hidden]), textarea") ?? row.querySelector("button")).focus();
});
