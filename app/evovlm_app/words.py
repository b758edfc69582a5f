"""The texts of the pages, in Japanese and English. Knows no components and no models."""

from __future__ import annotations

from typing import Literal

Language = Literal["ja", "en"]
LANGUAGES: dict[str, Language] = {"日本語": "ja", "English": "en"}

# key: (Japanese, English)
WORDS: dict[str, tuple[str, str]] = {
    "tagline": (
        "学習なしでモデルを合成します。配合は進化的探索で見つけます。",
        "Merge models without training: an evolutionary search finds the recipe.",
    ),
    "dark": ("ライト/ダーク", "Light or dark"),
    "language": ("言語", "Language"),
    "tab_compare": ("比較", "Compare"),
    "tab_maths": ("算数", "Maths"),
    "tab_mix": ("自分で合成", "Mix it yourself"),
    "tab_evolution": ("進化", "Evolution"),
    "compare_intro": (
        "画像と日本語の質問を選ぶと、元のモデルと合成したモデルが並んで答えます。**付属の小さなモデル(zoo)が知っているのは、"
        "描かれた図形の画像だけです。** 写真には答えられません。合成したモデルは元のモデルの欠点も受け継ぎ、"
        "アラインメントも行われておらず、狭い範囲でしか評価されていません。",
        "Choose an image and a question in Japanese; the sources and the merged models answer side by side. **The small"
        " zoo models only know rendered scenes**, not photographs. A merged model inherits the faults of its sources,"
        " is not aligned, and has been evaluated only narrowly.",
    ),
    "maths_intro": (
        "文章題を解く言語モデルの比較です。付属のモデルが知っているのは、30までの数を使う一、二段階の文章題だけです。",
        "Compare language models on word problems. The zoo models only know problems of one or two steps with numbers"
        " up to 30.",
    ),
    "mix_intro": (
        "スライダーを離すと、メモリ上で合成し直して、もう一度答えます。「層」を選ぶと、その層だけを動かせます。",
        "When you release a slider, the model is merged again in memory and answers again. Choose a layer group to"
        " change only that group.",
    ),
    "evolution_intro": (
        "探索の記録を表示します。探索の実行中は、表示が自動で更新されます。",
        "View the log of a search. While a search runs, this page updates itself.",
    ),
    "samples": ("サンプル画像", "Sample images"),
    "photographs": ("写真", "Photographs"),
    "picture": ("画像", "Image"),
    "picture_hint": ("画像を選択・ドロップ・貼り付け", "Choose, drop or paste an image"),
    "question": ("質問", "Question"),
    "question_hint": ("例:青い丸はどこですか。", "In Japanese, for example 青い丸はどこですか。"),
    "example_questions": ("質問の例", "Example questions"),
    "problem": ("問題", "Problem"),
    "problem_hint": ("日本語か英語の文章題", "A word problem in Japanese or English"),
    "example_problems": ("問題の例", "Example problems"),
    "expected": ("正解の数(わかれば)", "Correct number (if known)"),
    "models": ("モデル", "Models"),
    "ask": ("質問する", "Ask"),
    "solve": ("解く", "Solve"),
    "stop": ("停止", "Stop"),
    "recipe": ("配合", "Recipe"),
    "method": ("方法", "Method"),
    "seed": ("シード", "Seed"),
    "group": ("層", "Layer group"),
    "all_groups": ("すべての層", "all layers"),
    "weight_of": ("{name} の重み", "{name}: weight"),
    "density_of": ("{name} の密度", "{name}: density"),
    "mix_ask": ("合成して質問", "Merge and ask"),
    "use_evolved": ("進化の配合を使う", "Use evolved"),
    "reset": ("元の配合に戻す", "Reset"),
    "save_recipe": ("配合を保存", "Save as recipe"),
    "saved": ("保存した配合(YAML)", "Recipe (YAML)"),
    "no_evolved": (
        "進化で見つけた配合がまだありません。「進化」タブで探索を実行してください。",
        "No evolved recipe yet; run a search in the Evolution tab.",
    ),
    "merged_in": ("合成 {seconds} 秒", "merged in {seconds} s"),
    "values": ("現在の配合", "Current parameters"),
    "study": ("探索", "Study"),
    "start": ("新しい探索", "New search"),
    "trials": ("候補の数", "Trials"),
    "items": ("候補ごとの質問の数", "Questions per trial"),
    "name": ("名前", "Name"),
    "name_hint": ("英数字、例:my-search", "letters and digits, for example my-search"),
    "run_search": ("開始", "Start"),
    "stop_search": ("停止", "Stop"),
    "go_on": ("再開", "Resume"),
    "scores_plot": ("得点", "Scores"),
    "weights_plot": ("最良の配合:重み", "Best recipe: weights"),
    "densities_plot": ("最良の配合:密度", "Best recipe: densities"),
    "history_plot": ("世代ごとの重み", "Weights over generations"),
    "pareto_plot": ("パレート境界", "Pareto front"),
    "best_recipe": ("最良の配合", "Best recipe"),
    "no_study": ("探索がまだありません。", "No studies yet."),
    "starting": ("探索を開始しています…", "starting the search …"),
    "state_running": ("探索中:{done}/{total}", "searching: {done} of {total}"),
    "state_judging": ("評価中:{phase}", "evaluating: {phase}"),
    "state_stopped": ("停止中:{done} 候補", "stopped after {done} trials"),
    "state_done": ("完了:{done} 候補", "finished: {done} trials"),
    "state_failed": (
        "失敗しました。運営者に番号 {reference} を伝えてください。",
        "failed; give the operator this number: {reference}",
    ),
    "phase_task_vectors": ("差分の前処理", "preparing the task vectors"),
    "phase_choice": ("検証用の質問で最良の候補を選択", "choosing the winner on validation items"),
    "phase_controls": ("検証用の質問で比較対象を選択", "choosing the controls on validation items"),
    "phase_held_out": ("テスト用の質問で評価", "scoring on held-out items"),
    "source_named": ("元モデル {name}", "source {name}"),
    "all_tied": ("すべて同点 {score}(最良なし)", "all tied at {score}, no best"),
    "study_unreadable": (
        "この探索の記録は壊れているか、新しい版のものなので、表示できません。",
        "The log of this search is damaged, or of a newer version, and cannot be shown.",
    ),
    "evolved": ("進化で得たモデル", "evolved"),
    "control_average": ("単純平均", "plain average of the sources"),
    "control_plugged_in": ("言語モデルを合成せずに差し替え", "unmerged language model plugged in"),
    "control_sweep": ("全差分に共通の重み、最良値", "best single weight for all task vectors"),
    "control_tsv": ("TSV-M、共通の重みの最良値", "TSV-M, best single weight"),
    "control_single_vector": ("差分一つだけ、重みの最良値", "best single task vector, scaled"),
    "control_interpolation": ("二つのモデルの補間、最良値", "best interpolation between two sources"),
    "control_shuffled_images": ("進化、画像を入れ替え", "evolved, images shuffled"),
    "control_prior": ("質問文だけから推測", "guesser that sees the question alone"),
    "control_restyled": ("最良の元モデル、規則で言い換え", "best source, reworded by rules"),
    "control_random_search": ("ランダム探索、同じ候補数", "random search, same number of trials"),
    "control_whole_model": ("モデルごとに重み一つの探索", "search with one weight per source"),
    "control_without_scales": ("同じ経路、倍率なし", "the same route without its scales"),
    "best_score": ("最良 {score}", "best {score}"),
    "held_out": ("テスト用の質問での評価", "Results on held-out items"),
    "model": ("モデル", "model"),
    "score": ("得点", "score"),
    "interval": ("95 % 区間", "95 % interval"),
    "content": ("内容の正解", "content"),
    "exact": ("完全一致", "exact"),
    "answers_changed": ("回答の変化:最初の世代と最終", "Answers: generation 0 and final"),
    "first_answer": ("最初の世代の最良", "best of generation 0"),
    "last_answer": ("最終の最良", "final best"),
    "reference": ("正解", "reference"),
    "waiting": ("待機中", "waiting"),
    "loading": ("モデルを読み込んでいます…", "loading the model …"),
    "writing": ("回答しています…", "answering …"),
    "failed": (
        "回答できませんでした(数値エラーまたはメモリ不足)",
        "no answer (numerical error or out of memory)",
    ),
    "unfit": (
        "このモデルはこの画像を扱えません。切り抜くか、別の画像を選んでください",
        "this model cannot take this image; crop it, or choose another",
    ),
    "unasked": (
        "このモデルには、この形式では質問できません(理由はサーバーのログにあります)",
        "this model cannot be asked in this way; the server's log says why",
    ),
    "empty": ("(回答なし)", "(empty)"),
    "blind": ("画像なしで回答", "no image"),
    "blind_hint": ("このモデルは画像なしで回答しました", "this model answered without the image"),
    "seconds": ("{seconds} 秒", "{seconds} s"),
    "tokens": ("{count} トークン", "{count} tokens"),
    "japanese": ("日本語", "Japanese"),
    "not_japanese": ("日本語以外", "not Japanese"),
    "rouge": ("ROUGE-L {score}", "ROUGE-L {score}"),
    "exactly_right": ("完全一致", "exact"),
    "number": ("数:{number}", "number: {number}"),
    "no_number": ("数なし", "no number"),
    "right": ("正解", "correct"),
    "wrong": ("不正解", "wrong"),
    "answers_title": ("回答", "Answers"),
    "answers_hint": ("回答はここに表示されます。", "The answers appear here."),
    "stopped": ("停止しました", "stopped"),
    # Refusals, each with its reason.
    "no_picture": ("画像を選んでください。", "Choose an image first."),
    "no_question": ("質問を書いてください。", "Write a question first."),
    "long_question": (
        "質問が長すぎます({length}文字)。{most}文字までです。",
        "The question is too long ({length} characters); the limit is {most}.",
    ),
    "too_many_bytes": ("ファイルが大きすぎます。{most}までです。", "The file is too large; the limit is {most}."),
    "too_many_pixels": (
        "画像の画素数が多すぎます。{most}00万画素までです。",
        "The image has too many pixels; the limit is {most} million.",
    ),
    "not_a_picture": (
        "画像として読めません。使える形式:{formats}。",
        "This cannot be read as an image; supported formats: {formats}.",
    ),
    "no_model": ("モデルを選んでください。", "Choose a model."),
    # None of these repeats what was sent: a third party may have made the visitor send it.
    "unknown_model": ("そのモデルはありません。選べるもの:{choices}", "No such model; choices: {choices}."),
    "unknown_recipe": ("その配合はありません。選べるもの:{choices}", "No such recipe; choices: {choices}."),
    "unknown_method": ("その方法はありません。選べるもの:{choices}", "No such method; choices: {choices}."),
    "unknown_study": ("その探索はありません。", "There is no study of that name."),
    "bad_choice": ("選択肢にない値です。", "That is not among the choices."),
    "bad_value": ("ここでは使えない値です。", "That value cannot be used here."),
    "not_uploaded": (
        "ここでアップロードしたファイルだけ使えます。",
        "Only files that were uploaded here can be used.",
    ),
    "bad_request": ("リクエストの形式が正しくありません。", "The request is malformed."),
    "no_json": (
        "JSON で送ってください(Content-Type: application/json)。",
        "Send JSON (Content-Type: application/json).",
    ),
    "long_body": ("リクエストが大きすぎます。", "The request is too large."),
    "no_event": ("そのようなイベントはありません。", "There is no such event."),
    "no_page": ("ページが見つかりません。", "Page not found."),
    "no_method": ("この HTTP メソッドは使えません。", "This HTTP method is not allowed here."),
    "strange_host": (
        "このホスト名ではアクセスできません。運営者は --allow-host で許可できます。",
        "The app does not answer to this host name; the operator can allow it with --allow-host.",
    ),
    "strange_origin": (
        "ほかのサイトのページからは使えません。",
        "The app cannot be used from another site's page.",
    ),
    "wrong_password": ("名前かパスワードが違います。", "Wrong name or password."),
    "log_in": ("ログインしてください。", "Log in first."),
    "log_in_later": (
        "パスワードの間違いが続きました。{seconds}秒待ってください。",
        "Too many wrong passwords; wait {seconds} seconds.",
    ),
    "bad_name": (
        "名前には英数字とハイフンを使い、40文字までにしてください。",
        "Use letters, digits and hyphens for the name, at most 40 characters.",
    ),
    "taken_name": (
        "その名前はもう使われています。別の名前にするか、「再開」を押してください。",
        "That name is already taken; choose another, or press Resume.",
    ),
    "bad_parameters": ("この配合の値は使えません。", "These parameters cannot be used."),
    "method_misfit": (
        "この方法は、この配合のモデルには使えません。",
        "This method does not work with the models of this recipe.",
    ),
    "no_room": (
        "{name} には {need} GB のメモリが必要です。上限は {most} GB です。",
        "{name} needs {need} GB of memory; the limit is {most} GB.",
    ),
    "searching_already": (
        "ほかの探索を実行中です({name})。先に停止してください。",
        "Another search is running ({name}); stop it first.",
    ),
    "paths_lost": (
        "{lost} が見つかりません。この探索のパスは {folder} から始まります。元の場所に戻すか、レシピのあるフォルダーで"
        " `evovlm evolve` を実行してください。",
        "{lost} is not there: the paths of this search start from {folder}. Put it back, or run `evovlm evolve` where"
        " its recipe is.",
    ),
    "not_searching": ("実行中の探索はありません。", "No search is running."),
    "broken_weights": (
        "この配合では数値が NaN か無限大になります。重みを小さくしてください。",
        "These weights give NaN or infinite values; make them smaller.",
    ),
    "unexpected": (
        "エラーが発生しました。運営者に番号 {reference} を伝えてください。",
        "Something went wrong. Give the operator this number: {reference}.",
    ),
    "too_many_waiting": (
        "回答待ちの質問が多すぎます。回答が出てから、もう一度お試しください。",
        "You have too many questions waiting; wait for an answer, then ask again.",
    ),
    "too_many_streams": (
        "開いているページが多すぎます。いくつか閉じてから、もう一度お試しください。",
        "You have too many pages open; close some, then try again.",
    ),
    "too_busy": (
        "ただいま混み合っています。しばらくしてから、もう一度お試しください。",
        "There are too many visitors right now; try again in a moment.",
    ),
    "upload_too_large": ("一度に送れる画像は {most} までです。", "An upload may be at most {most}."),
    "too_many_files": ("一度に送るファイルの数が多すぎます。", "There are too many files in this upload."),
    "uploads_used_up": (
        "1時間に送れる画像の上限に達しました。しばらくしてから、もう一度お試しください。",
        "You have uploaded as many images as one visitor may in an hour; try again later.",
    ),
    "pictures_full": (
        "現在、これ以上画像を受け取れません。しばらくしてから、もう一度お試しください。",
        "No more images can be accepted right now; try again later.",
    ),
}

# Gradio's own texts in the browser, which no component property can change: whole labels, and starts of sentences.
GRADIO_LABELS: dict[str, tuple[str, str]] = {
    "Error": ("エラー", "That did not work"),
    "Warning": ("お知らせ", "Please note"),
    "Info": ("お知らせ", "Please note"),
    "Close": ("閉じる", "Close"),
    "Fullscreen": ("全画面表示", "Fullscreen"),
    "Exit fullscreen mode": ("全画面表示を終了", "Exit fullscreen"),
    "Remove Image": ("画像を削除", "Remove the image"),
    "Upload file": ("ファイルを選択", "Upload a file"),
    "File upload": ("ファイルを選択", "Upload a file"),
    "Drop an image file here to upload": ("ここに画像をドロップ", "Drop an image here"),
    "Paste from clipboard": ("クリップボードから貼り付け", "Paste from the clipboard"),
    "Copy": ("コピー", "Copy"),
    "Download": ("ダウンロード", "Download"),
    "More tabs": ("ほかのタブ", "More tabs"),
}
GRADIO_SENTENCES: dict[str, tuple[str, str]] = {
    "Queue is full": (
        "順番待ちがいっぱいです。しばらくしてから、もう一度お試しください。",
        "Too many people are waiting right now; try again in a moment.",
    ),
    "Connection errored out": ("サーバーとの接続が切れました。", "The connection to the server was lost."),
    "Connection to the server was lost": ("サーバーとの接続が切れました。", "The connection to the server was lost."),
}
# Our sentences that reach the page the way gradio's do: over HTTP, in English.
DENIALS = (
    "too_many_waiting",
    "too_many_streams",
    "too_busy",
    "upload_too_large",
    "too_many_files",
    "uploads_used_up",
    "pictures_full",
)


def say(key: str, language: Language, **facts: object) -> str:
    """The text of a key in `WORDS`, its placeholders filled with `facts`."""
    japanese, english = WORDS[key]
    return (japanese if language == "ja" else english).format(**facts)


def browser_words(most: str) -> dict[str, dict[str, dict[str, str]]]:
    """Translations of gradio's own English for the page's script: `exact` labels, and `starts` of sentences.

    `most`: the largest upload as text, such as "8 MB".
    """
    too_large = {"File(s) exceed": (say("too_many_bytes", "ja", most=most), say("too_many_bytes", "en", most=most))}
    denials = {say(key, "en", most=most): (say(key, "ja", most=most), say(key, "en", most=most)) for key in DENIALS}
    # For uploads, gradio puts the HTTP status before our sentence.
    denials |= {f"HTTP {status}: {english}": both for english, both in denials.items() for status in (413, 429, 503)}
    known = {"exact": GRADIO_LABELS, "starts": GRADIO_SENTENCES | too_large | denials}
    return {
        kind: {english: {"ja": words[0], "en": words[1]} for english, words in table.items()}
        for kind, table in known.items()
    }


def preferred(accept_language: str | None) -> Language:
    """The language of a browser's `Accept-Language` header: Japanese if preferred over English, otherwise English."""
    weighed = []
    for place, part in enumerate((accept_language or "").lower().split(",")):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weighed.append((-float(quality or 1), place, tag[:2]))
        except ValueError:
            continue
    for _, _, tag in sorted(weighed):
        if tag in ("ja", "en"):
            return "ja" if tag == "ja" else "en"
    return "en"
