"""What the pages say, in Japanese and English. Knows no components and no models."""

from __future__ import annotations

from typing import Literal

Language = Literal["ja", "en"]
LANGUAGES: dict[str, Language] = {"日本語": "ja", "English": "en"}

# key: (Japanese, English)
WORDS: dict[str, tuple[str, str]] = {
    "tagline": (
        "学習なしで、モデルを掛け合わせる。配合は進化が見つけます。",
        "Models bred from models, without training: the recipe is found by evolution.",
    ),
    "dark": ("明暗", "Dark or light"),
    "language": ("ことば", "Language"),
    "tab_compare": ("くらべる", "Compare"),
    "tab_maths": ("算数", "Maths"),
    "tab_mix": ("自分で混ぜる", "Mix it yourself"),
    "tab_evolution": ("進化", "Evolution"),
    "compare_intro": (
        "絵と日本語の質問を選ぶと、元のモデルと合成したモデルが並んで答えます。**付属の小さなモデル(zoo)が知っているのは、"
        "描かれた図形の絵だけです。** 写真には答えられません。合成したモデルは元のモデルの欠点も受け継ぎ、"
        "狭い範囲でしか評価されていません。",
        "Choose a picture and a question in Japanese: sources and merged models answer side by side. **The zoo's small"
        " models know rendered scenes only**, no photographs. A merged model inherits the faults of its sources, is not"
        " aligned, and has been judged narrowly.",
    ),
    "maths_intro": (
        "文章題を解く言語モデルの比較です。付属のモデルが知っているのは、30までの数を使う一、二段階の文章題だけです。",
        "Language models at word problems. The zoo's know problems of one or two steps with numbers up to 30.",
    ),
    "mix_intro": (
        "つまみを離すと、メモリの中で合成し直して、もう一度答えます。「層」を選ぶと、その層だけを動かせます。",
        "Let a slider go: the model is merged anew in memory and answers again. Choose a layer group to move it alone.",
    ),
    "evolution_intro": (
        "探索の記録を見ます。探索が走っていれば、記録を追って表示が変わります。",
        "Look at the log of a search. While a search runs, this page follows it.",
    ),
    "samples": ("例の絵", "Sample pictures"),
    "photographs": ("写真", "Photographs"),
    "picture": ("絵", "Picture"),
    "picture_hint": ("絵を選ぶ・ドロップする・貼りつける", "Choose, drop or paste a picture"),
    "question": ("質問", "Question"),
    "question_hint": ("例:絵の中央に何がありますか。", "In Japanese, such as 絵の中央に何がありますか。"),
    "example_questions": ("質問の例", "Example questions"),
    "problem": ("問題", "Problem"),
    "problem_hint": ("文章題を日本語か英語で", "A word problem in Japanese or English"),
    "example_problems": ("問題の例", "Example problems"),
    "expected": ("正しい数(わかれば)", "Right number (if known)"),
    "models": ("モデル", "Models"),
    "ask": ("聞く", "Ask"),
    "solve": ("解く", "Solve"),
    "stop": ("止める", "Stop"),
    "recipe": ("配合", "Recipe"),
    "method": ("方法", "Method"),
    "seed": ("乱数の種", "Seed"),
    "group": ("層", "Layer group"),
    "all_groups": ("すべての層", "all layers"),
    "weight_of": ("{name} の重み", "{name}: weight"),
    "density_of": ("{name} の密度", "{name}: density"),
    "mix_ask": ("混ぜて聞く", "Merge and ask"),
    "use_evolved": ("進化の配合を使う", "Use evolved"),
    "reset": ("元の配合", "Reset"),
    "save_recipe": ("配合を保存", "Save as recipe"),
    "saved": ("保存した配合(YAML)", "Recipe (YAML)"),
    "no_evolved": (
        "進化で見つけた配合がまだありません。「進化」で探索を走らせてください。",
        "No evolved recipe yet: run a search in the Evolution tab.",
    ),
    "merged_in": ("合成 {seconds} 秒", "merged in {seconds} s"),
    "values": ("いまの配合", "Parameters now"),
    "study": ("探索", "Study"),
    "start": ("探索を始める", "Start a search"),
    "trials": ("候補の数", "Trials"),
    "items": ("質問の数", "Questions a trial"),
    "name": ("名前", "Name"),
    "name_hint": ("英数字、例:my-search", "letters and digits, such as my-search"),
    "run_search": ("始める", "Start"),
    "stop_search": ("止める", "Stop"),
    "go_on": ("続ける", "Go on"),
    "scores_plot": ("得点", "Scores"),
    "weights_plot": ("最良の配合:重み", "Best recipe: weights"),
    "densities_plot": ("最良の配合:密度", "Best recipe: densities"),
    "history_plot": ("世代ごとの重み", "Weights over generations"),
    "pareto_plot": ("パレート境界", "Pareto front"),
    "best_recipe": ("最良の配合", "Best recipe"),
    "no_study": ("探索がまだありません。", "There is no study yet."),
    "starting": ("探索を始めています…", "the search is starting …"),
    "state_running": ("探索中:{done}/{total}", "searching: {done} of {total}"),
    "state_judging": ("判定中:{phase}", "judging: {phase}"),
    "state_stopped": ("途中で止まっています:{done} 候補", "stopped after {done} trials"),
    "state_done": ("終わりました:{done} 候補", "finished: {done} trials"),
    "state_failed": (
        "失敗しました。運営者に番号 {reference} を伝えてください。",
        "failed; tell the operator this number: {reference}",
    ),
    "phase_choice": ("新しい問題で選び直し", "choosing on fresh items"),
    "phase_held_out": ("新しい問題で評価", "scoring on held-out items"),
    "evolved": ("進化で得たモデル", "evolved"),
    "control_average": ("単純平均", "plain average of the sources"),
    "control_plugged_in": ("言語モデルをそのまま差し替え", "language model plugged in unmerged"),
    "control_sweep": ("ひとつの重みの最良", "best single weight for all task vectors"),
    "control_single_vector": ("ひとつの差分だけの最良", "best single task vector, scaled"),
    "control_interpolation": ("二つのモデルの補間の最良", "best interpolation between two sources"),
    "control_shuffled_images": ("進化、絵を入れ替え", "evolved, images shuffled"),
    "control_random_search": ("同じ回数の無作為探索", "random search, as many trials"),
    "control_whole_model": ("モデルごとに重みひとつ", "search of one weight a source"),
    "control_without_scales": ("同じ経路、倍率なし", "the same route without its scales"),
    "best_score": ("最良 {score}", "best {score}"),
    "held_out": ("新しい問題での判定", "Judged on held-out items"),
    "model": ("モデル", "model"),
    "score": ("得点", "score"),
    "interval": ("95 % 区間", "95 % interval"),
    "exact": ("完全一致", "exact"),
    "answers_changed": ("最初の世代と最後の答え", "Answers: generation 0 against the last"),
    "first_answer": ("最初の世代の最良", "best of generation 0"),
    "last_answer": ("最後の最良", "best at the end"),
    "reference": ("正解", "reference"),
    "waiting": ("待っています", "waiting"),
    "loading": ("読み込んでいます…", "loading the model …"),
    "writing": ("答えています…", "answering …"),
    "failed": ("答えられませんでした(数値が壊れています)", "no answer (its numbers are broken)"),
    "empty": ("(答えなし)", "(empty)"),
    "blind": ("絵を見ない", "cannot see"),
    "blind_hint": ("このモデルは絵なしで答えました", "this model answered without the picture"),
    "seconds": ("{seconds} 秒", "{seconds} s"),
    "tokens": ("{count} トークン", "{count} tokens"),
    "japanese": ("日本語", "Japanese"),
    "not_japanese": ("日本語でない", "not Japanese"),
    "rouge": ("ROUGE-L {score}", "ROUGE-L {score}"),
    "exactly_right": ("完全一致", "exact"),
    "number": ("数:{number}", "number: {number}"),
    "no_number": ("数なし", "no number"),
    "right": ("正解", "right"),
    "wrong": ("不正解", "wrong"),
    "answers_title": ("答え", "Answers"),
    "answers_hint": ("ここに答えが並びます。", "The answers appear here."),
    "stopped": ("止めました", "stopped"),
    # What is refused, and why.
    "no_picture": ("絵を選んでください。", "Choose a picture first."),
    "no_question": ("質問を書いてください。", "Write a question first."),
    "long_question": (
        "質問が長すぎます({length}文字)。{most}文字までです。",
        "The question is too long ({length} characters); at most {most}.",
    ),
    "too_many_bytes": ("ファイルが大きすぎます。{most}までです。", "The file is too large; at most {most}."),
    "too_many_pixels": (
        "絵の画素が多すぎます。{most}00万画素までです。",
        "The picture has too many pixels; at most {most} million.",
    ),
    "not_a_picture": (
        "絵として読めません。使える形式:{formats}。",
        "This cannot be read as a picture; formats: {formats}.",
    ),
    "no_model": ("モデルを選んでください。", "Choose a model."),
    # None of these repeats what was sent: it may be what somebody else made a visitor send.
    "unknown_model": ("そのモデルはありません。選べるもの:{choices}", "No such model; choices: {choices}."),
    "unknown_recipe": ("その配合はありません。選べるもの:{choices}", "No such recipe; choices: {choices}."),
    "unknown_method": ("その方法はありません。選べるもの:{choices}", "No such method; choices: {choices}."),
    "unknown_study": ("その探索はありません。", "There is no study of that name."),
    "bad_choice": ("選択肢にない値です。", "That is not among the choices."),
    "bad_value": ("ここでは使えない値です。", "That value cannot be used here."),
    "not_uploaded": (
        "ファイルはアップロードしたものだけ使えます。",
        "Only files that were uploaded here can be used.",
    ),
    "bad_request": ("正しくない要求です。", "This request is not well formed."),
    "no_json": (
        "JSON で送ってください。",
        "Send JSON (Content-Type: application/json).",
    ),
    "long_body": ("送られたものが大きすぎます。", "The request is too large."),
    "no_event": ("そのような処理はありません。", "There is no such event."),
    "no_page": ("ページが見つかりません。", "Nothing is to be found here."),
    "no_method": ("この方法では開けません。", "This cannot be asked for in that way."),
    "strange_host": (
        "この名前ではアクセスできません。運営者は --allow-host で名前を許可できます。",
        "The app does not answer to this name; its operator can allow names with --allow-host.",
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
        "名前は英数字とハイフンで40文字までです。",
        "A name has letters, digits and hyphens, at most 40 characters.",
    ),
    "taken_name": (
        "その名前はもうあります。別の名前か「続ける」を。",
        "That name exists already: another name, or Go on.",
    ),
    "bad_parameters": ("配合の値が正しくありません。", "These parameters cannot be used."),
    "method_misfit": (
        "この方法は、この配合のモデルには使えません。",
        "This method does not fit the models of this recipe.",
    ),
    "no_room": (
        "{name} には {need} GB 必要です。上限は {most} GB です。",
        "{name} needs {need} GB of memory; the limit is {most} GB.",
    ),
    "searching_already": (
        "ほかの探索が走っています({name})。",
        "Another search is running ({name}); stop it first.",
    ),
    "not_searching": ("走っている探索はありません。", "No search is running."),
    "broken_weights": (
        "この配合では数値が壊れます。重みを小さくしてください。",
        "These weights give broken numbers; make them smaller.",
    ),
    "unexpected": (
        "うまくいきませんでした。運営者に番号 {reference} を伝えてください。",
        "Something went wrong. Tell the operator this number: {reference}.",
    ),
    "too_many_waiting": (
        "待っている質問が多すぎます。答えが出てから、もう一度どうぞ。",
        "You have too many questions waiting; wait for an answer, then ask again.",
    ),
    "too_many_streams": (
        "開いているページが多すぎます。いくつか閉じてから、もう一度どうぞ。",
        "You have too many pages open; close some, then try again.",
    ),
    "too_busy": (
        "いま来ている人が多すぎます。少したってから、もう一度どうぞ。",
        "Too many visitors are here just now; try again in a moment.",
    ),
    "upload_too_large": ("一度に送れる画像は {most} までです。", "One upload may hold {most} at most."),
    "too_many_files": ("一度に送れるファイルの数を超えました。", "One upload holds too many files."),
    "uploads_used_up": (
        "この一時間に送れる画像の量を超えました。しばらくしてから、もう一度どうぞ。",
        "You have sent as many pictures as one visitor may in an hour; try again later.",
    ),
    "pictures_full": (
        "いまはこれ以上画像を受け取れません。しばらくしてから、もう一度どうぞ。",
        "No more pictures can be taken just now; try again later.",
    ),
}

# What gradio itself says in the browser, where no property reaches: whole labels, and beginnings of sentences.
GRADIO_LABELS: dict[str, tuple[str, str]] = {
    "Error": ("できませんでした", "That did not work"),
    "Warning": ("お知らせ", "Please note"),
    "Info": ("お知らせ", "Please note"),
    "Close": ("閉じる", "Close"),
    "Fullscreen": ("全画面で見る", "Fullscreen"),
    "Exit fullscreen mode": ("全画面を終わる", "Leave fullscreen"),
    "Remove Image": ("絵を消す", "Remove the picture"),
    "Upload file": ("ファイルを選ぶ", "Upload a file"),
    "File upload": ("ファイルを選ぶ", "Upload a file"),
    "Drop an image file here to upload": ("ここに絵をドロップ", "Drop a picture here"),
    "Paste from clipboard": ("クリップボードから貼る", "Paste from the clipboard"),
    "Copy": ("写し取る", "Copy"),
    "Download": ("保存する", "Download"),
    "More tabs": ("ほかのタブ", "More tabs"),
}
GRADIO_SENTENCES: dict[str, tuple[str, str]] = {
    "Queue is full": (
        "いま待っている人が多すぎます。少したってから、もう一度どうぞ。",
        "Too many people are waiting just now; try again in a moment.",
    ),
    "Connection errored out": ("サーバーとの接続が切れました。", "The connection to the server was lost."),
    "Connection to the server was lost": ("サーバーとの接続が切れました。", "The connection to the server was lost."),
}
# Sentences of ours that reach the page as gradio's do: by HTTP, in English.
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
    """The sentence of that key, its places filled."""
    japanese, english = WORDS[key]
    return (japanese if language == "ja" else english).format(**facts)


def browser_words(most: str) -> dict[str, dict[str, dict[str, str]]]:
    """Gradio's own English by language, for the page's script: `exact` labels, and `starts` of sentences.

    `most`: what a file may weigh, in words.
    """
    too_large = {"File(s) exceed": (say("too_many_bytes", "ja", most=most), say("too_many_bytes", "en", most=most))}
    denials = {say(key, "en", most=most): (say(key, "ja", most=most), say(key, "en", most=most)) for key in DENIALS}
    # Gradio puts the status before what an upload is answered with.
    denials |= {f"HTTP {status}: {english}": both for english, both in denials.items() for status in (413, 429, 503)}
    known = {"exact": GRADIO_LABELS, "starts": GRADIO_SENTENCES | too_large | denials}
    return {
        kind: {english: {"ja": words[0], "en": words[1]} for english, words in table.items()}
        for kind, table in known.items()
    }


def preferred(accept_language: str | None) -> Language:
    """The language of a browser's `Accept-Language` header: Japanese where it comes before English."""
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
